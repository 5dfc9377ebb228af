"""What every request passes before anything else: host names, other sites, who it is; and what every answer carries."""

from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from perdure.domain.access import Identity
from perdure.surfaces.web.authentication import Arrival, Authentication
from perdure.surfaces.web.problems import Problem, problem_bytes
from perdure.surfaces.web.refusals import CODES

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES = frozenset({"same-origin", "none"})
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
IDENTITY = "perdure.identity"
PROBES = frozenset({"/livez", "/readyz", "/startupz", "/healthz"})
"""Asked by address and not by name; they tell nothing that a stranger could use."""


class Gate:
    """Lets requests through to an application, or answers them itself.

    `hosts` are the names by which it may be called (none: any), which keeps other sites from reaching it under a name of
    theirs. A request that changes something must not come from another site.
    """

    def __init__(
        self, app: ASGIApp, authentication: Authentication, hosts: Iterable[str], *, read_only: bool
    ) -> None:
        self.inner = app
        self._authentication = authentication
        self._hosts = frozenset(host.lower() for host in hosts)
        self._read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.inner(scope, receive, send)
            return
        arrival = _arrival(scope)
        answering = _with_headers(send)
        if (refusal := self._refusal(arrival)) is not None:
            await _refuse(refusal, answering)
            return
        identity = await self._authentication.identify(arrival)
        if identity is not None and self._read_only:
            identity = identity.reading_only()
        await self.inner(_inner(scope, identity), receive, answering)

    def _refusal(self, arrival: Arrival) -> Problem | None:
        host = arrival.headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._hosts and name not in self._hosts and arrival.path not in PROBES:
            return Problem(
                status=421,
                title="Unknown host",
                code=CODES[421],
                field="Host",
                detail=f"Host: this server is not called {name or 'nothing'}",
                next_step="add the name to the setting web_hosts",
            )
        if arrival.method not in SAFE_METHODS and _is_foreign(arrival.headers, host):
            return Problem(
                status=403,
                title="From another site",
                code=CODES[403],
                detail="a page of another site may not change anything here",
                next_step="open the dashboard itself",
            )
        return None


def _is_foreign(headers: Any, host: str) -> bool:
    """Whether a browser says that another site sent this; programs say neither and are not meant."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in OWN_SITES
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host


def _arrival(scope: Any) -> Arrival:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        key = name.decode("latin-1").lower()
        headers[key] = f"{headers[key]}; {text}" if key == "cookie" and key in headers else text
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", ""))
    except CookieError:
        cookies.clear()
    client = scope.get("client")
    return Arrival(
        method=scope["method"],
        path=scope["path"],
        headers=headers,
        cookies={name: morsel.value for name, morsel in cookies.items()},
        client=client[0] if client else None,
    )


def _inner(scope: Any, identity: Identity | None) -> Any:
    """The scope with the identity, and with the path below the place where the application is mounted."""
    root = scope.get("root_path", "").rstrip("/")
    path = scope["path"]
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :] or "/"
    return {
        **scope,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "user": identity,
        IDENTITY: identity,
    }


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            added = [(name, value) for name, value in HEADERS if name not in present]
            if b"cache-control" not in present:
                added.append((b"cache-control", b"no-store"))
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return sending


async def _refuse(problem: Problem, send: Callable[[Any], Any]) -> None:
    body = problem_bytes(problem)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
