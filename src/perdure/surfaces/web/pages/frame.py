"""What all pages share: the environment of the templates, who visits what, and how a page is shown."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler

from perdure.domain.access import Identity, Permission
from perdure.runtime.wiring import Stores
from perdure.surfaces.web import text
from perdure.surfaces.web.assets import asset_names
from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb, Web
from perdure.surfaces.web.problems import Problem
from perdure.surfaces.web.routing import PERMISSION

HTML = "text/html"
LIVE_BLOCK = "live"

Content = tuple[str, Mapping[str, Any]]
"""The name of a template, and what it shows."""


@dataclass(frozen=True, slots=True)
class Place:
    """A page of the menu: its letter after `g` leads there."""

    path: str
    title: str
    icon: str
    letter: str


MENU = (
    Place("/", "Now", "now", "n"),
    Place("/jobs", "Jobs", "jobs", "j"),
    Place("/queues", "Queues", "queues", "q"),
    Place("/workers", "Workers", "workers", "w"),
    Place("/dead-letters", "Dead letters", "dead", "d"),
    Place("/flows", "Flows", "flows", "f"),
    Place("/alerts", "Alerts", "degraded", "l"),
    Place("/runbooks", "Runbooks", "book", "r"),
    Place("/audit", "Audit", "audit", "a"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Somebody at a page: `root` is where the application is mounted, `path` and `query` what is asked below it."""

    web: Web
    stores: Stores
    identity: Identity
    root: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)

    def may(self, permission: str) -> bool:
        """Whether the page offers it; the route that does it asks again."""
        return Permission(permission) in self.identity.permissions

    def url(self, path: str, **query: object) -> str:
        """An address of ours with the parameters that are not empty."""
        given = {name: str(value) for name, value in query.items() if value not in (None, "", False)}
        return f"{self.root}{path}" + (f"?{urlencode(given)}" if given else "")

    @property
    def live_url(self) -> str:
        """Where the versions of this page come from."""
        return self.url("/live", page=self.path + (f"?{urlencode(self.query)}" if self.query else ""))


View = Callable[[Visit], Awaitable[Content]]


@cache
def environment() -> Environment:
    """The templates; whatever they show is escaped."""
    made = Environment(
        loader=PackageLoader("perdure.surfaces.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "visible": text.visible,
        "line": text.line,
        "plain": text.plain,
        "ticks": text.ticks,
        "number": text.number,
        "rate": text.rate,
        "span": text.span,
        "stamp": text.stamp,
        "clock": text.clock,
        "short": text.short,
        "json_text": text.json_text,
        "json_line": text.json_line,
    }
    made.globals |= {
        "menu": MENU,
        "states": text.STATES,
        "version": version("perdure"),
        "assets": asset_names(),
    }
    return made


def render(visit: Visit, content: Content, *, live: bool = False) -> str:
    """A whole page, or the part of it that lives."""
    name, shown = content
    template = environment().get_template(name)
    now = datetime.now(UTC)
    values = {
        "visit": visit,
        "url": visit.url,
        "may": visit.may,
        "root": visit.root,
        "identity": visit.identity,
        "here": visit.path,
        "now": now,
        "ago": lambda moment: text.ago(moment, now),
        **shown,
    }
    if live:
        return "".join(template.blocks[LIVE_BLOCK](template.new_context(values)))
    return template.render(values)


def visit_of(request: Request[Any, Any, Any], web: Web, stores: Stores, identity: Identity) -> Visit:
    """Who asks for what."""
    return Visit(
        web=web,
        stores=stores,
        identity=identity,
        root=request.scope.get("root_path", ""),
        path=request.scope["path"],
        query=dict(request.query_params.items()),
    )


def answer(html: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[str]:
    """HTML as an answer."""
    return Response(html, status_code=status, media_type=HTML, headers=dict(headers or {}))


def page(path: str, view: View, name: str) -> HTTPRouteHandler:
    """The route of a page whose view is also shown live."""

    @get(
        path,
        name=name,
        opt={PERMISSION: Permission.VIEW},
        media_type=MediaType.HTML,
        include_in_schema=False,
    )
    async def show(
        request: Request[Any, Any, Any], web: GivenWeb, stores: GivenStores, identity: GivenIdentity
    ) -> Response[str]:
        visit = visit_of(request, web, stores, identity)
        return answer(render(visit, await view(visit)))

    return show


def error_page(
    request: Request[Any, Any, Any], problem: Problem, headers: Mapping[str, str]
) -> Response[str]:
    """What went wrong, for people."""
    template = environment().get_template("error.html")
    root = request.scope.get("root_path", "")
    html = template.render(problem=problem, root=root, url=lambda path: f"{root}{path}")
    return answer(html, problem.status, headers)
