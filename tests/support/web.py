"""The web face on a database, called without a network, and as a real server for a browser."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from perdure import Perdure
from perdure.runtime.settings import Settings
from perdure.surfaces.web.application import web_application

TOKENS = {
    "viewer": "viewer-secret-0123456789",
    "operator": "operator-secret-0123456789",
    "worker": "worker-secret-0123456789",
    "admin": "admin-secret-0123456789",
}
USERS = ",".join(f"{role[:1]}. {role}:{role}:{secret}" for role, secret in TOKENS.items())


def web_settings(url: str, **options: Any) -> Settings:
    """Settings of a web face, by default open to this machine alone."""
    return Settings(**{"database_url": url, **options})


def as_role(role: str) -> dict[str, str]:
    """The header of somebody with that role."""
    return {"authorization": f"Bearer {TOKENS[role]}"}


@asynccontextmanager
async def visitor(
    url: str, *, root_path: str = "", client: str = "127.0.0.1", anywhere: bool = False, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a web face with these settings."""
    app = Perdure(web_settings(url, **options))
    face = web_application(app, anywhere=anywhere)
    transport = httpx.ASGITransport(
        app=face,  # type: ignore[arg-type] # the same protocol under other names
        root_path=root_path,
        client=(client, 4711),
        raise_app_exceptions=False,
    )
    base = f"http://localhost{root_path}"
    try:
        async with httpx.AsyncClient(transport=transport, base_url=base, timeout=30) as http:
            yield http
    finally:
        await app.close()
        await close(face)


async def close(face: Any) -> None:
    """Tell a web face that its server ends."""
    web = face.inner._web
    await web.close()


def routes(face: Any) -> Iterable[tuple[str, str, Any]]:
    """Method, path and handler of every route."""
    litestar = face.inner._app
    for route in litestar.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in handler.http_methods - {"OPTIONS", "HEAD"}:
                yield method, route.path_format, handler
