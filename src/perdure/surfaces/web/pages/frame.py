"""What all pages share: the environment of the templates, who visits what, and how a page is shown."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler

from perdure.domain.access import Identity, Permission
from perdure.domain.activity import EventChoice
from perdure.domain.views import EventView
from perdure.runtime.wiring import Stores
from perdure.surfaces.cli.options import moment
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
    Place("/snapshots", "Snapshots", "snapshots", "s"),
    Place("/alerts", "Alerts", "degraded", "l"),
    Place("/runbooks", "Runbooks", "book", "r"),
    Place("/database", "Database", "database", "b"),
    Place("/audit", "Audit", "audit", "a"),
)


REMEMBERED = frozenset({"/", "/jobs", "/queues", "/workers", "/dead-letters", "/audit"})
MOMENT_LONGEST = 60
MARKED = ("alert_*", "worker_*", "snapshot_*")
MARKS_OF_EACH = 4
COMPILED_FIRST = ("base.html", "macros.html", "now.html")
BREATH_S = 0.02
MARKS_WITHIN = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Somebody at a page: `root` is where the application is mounted, `path` and `query` what is asked below it.

    `as_of` is the moment that they look back to, with links that stay there; who looks back may only look.
    """

    web: Web
    stores: Stores
    identity: Identity
    root: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    as_of: datetime | None = None

    def may(self, permission: str) -> bool:
        """Whether the page offers it; the route that does it asks again."""
        return Permission(permission) in self.identity.permissions

    def url(self, path: str, **query: object) -> str:
        """An address of ours with the parameters that are not empty."""
        if self.as_of is not None and path != "/live":
            query = {"as_of": moment_text(self.as_of), **query}
        given = {name: str(value) for name, value in query.items() if value not in (None, "", False)}
        return f"{self.root}{path}" + (f"?{urlencode(given)}" if given else "")

    @property
    def live_url(self) -> str:
        """Where the versions of this page come from."""
        return self.url("/live", page=self.path + (f"?{urlencode(self.query)}" if self.query else ""))

    @property
    def remembers(self) -> bool:
        """Whether this page can be looked at as it was."""
        return self.path in REMEMBERED or self.path.startswith("/jobs/")

    def step(self, by: timedelta | None) -> str:
        """The address of this page some time earlier or later, or as it is now."""
        kept = {name: value for name, value in self.query.items() if name not in {"as_of", "cursor"}}
        moved = {} if by is None or self.as_of is None else {"as_of": moment_text(self.as_of + by)}
        return self.root + self.path + (f"?{urlencode(kept | moved)}" if kept or moved else "")


def moment_text(moment: datetime) -> str:
    """A moment for an address, exact and in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


STEPS = (
    ("an hour earlier", timedelta(hours=-1)),
    ("a minute earlier", timedelta(minutes=-1)),
    ("a minute later", timedelta(minutes=1)),
    ("an hour later", timedelta(hours=1)),
)
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
        "percent": text.percent,
        "span": text.span,
        "stamp": text.stamp,
        "clock": text.clock,
        "short": text.short,
        "json_text": text.json_text,
        "json_line": text.json_line,
    }
    made.globals |= {
        "menu": MENU,
        "steps": STEPS,
        "moment_text": moment_text,
        "states": text.STATES,
        "version": version("perdure"),
        "assets": asset_names(),
    }
    return made


async def compile_templates() -> None:
    """Make all templates ready, so that the first visitors after a start do not wait for it: some 350 ms of work.

    Now comes first; who visits another page meanwhile waits for one template at most.
    """
    made = environment()
    for name in dict.fromkeys((*COMPILED_FIRST, *made.list_templates(extensions=["html"]))):
        made.get_template(name)
        await asyncio.sleep(0.0 if name in COMPILED_FIRST else BREATH_S)


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
        "marks": (),
        "ago": lambda moment: text.ago(moment, now),
        **shown,
    }
    if live:
        return "".join(template.blocks[LIVE_BLOCK](template.new_context(values)))
    return template.render(values)


def visit_of(request: Request[Any, Any, Any], web: Web, stores: Stores, identity: Identity) -> Visit:
    """Who asks for what."""
    return visiting(
        Visit(
            web=web,
            stores=stores,
            identity=identity,
            root=request.scope.get("root_path", ""),
            path=request.scope["path"],
            query=dict(request.query_params.items()),
        )
    )


def visiting(visit: Visit) -> Visit:
    """The visit at the moment that its query asks for. Raises InvalidOption."""
    asked = visit.query.get("as_of", "").strip()
    if not asked:
        return visit
    at = moment(asked[:MOMENT_LONGEST], "as_of")
    return replace(visit, as_of=at, identity=visit.identity.reading_only())


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
        template, shown = await view(visit)
        return answer(render(visit, (template, {**shown, "marks": await marks(visit)})))

    return show


async def marks(visit: Visit) -> Sequence[EventView]:
    """What of weight happened last before the moment that is looked back to: alerts, workers, snapshots."""
    if visit.as_of is None or not visit.remembers:
        return ()
    events = visit.stores.activity.events
    found = await asyncio.gather(
        *(
            events(EventChoice(event=event), limit=MARKS_OF_EACH, as_of=visit.as_of, budget=MARKS_WITHIN)
            for event in MARKED
        )
    )
    every = [event for page in found for event in page.events]
    return sorted(every, key=lambda event: event.at, reverse=True)


def error_page(
    request: Request[Any, Any, Any], problem: Problem, headers: Mapping[str, str]
) -> Response[str]:
    """What went wrong, for people."""
    template = environment().get_template("error.html")
    root = request.scope.get("root_path", "")
    html = template.render(problem=problem, root=root, url=lambda path: f"{root}{path}")
    return answer(html, problem.status, headers)
