"""Puts the web face together: routes, what they share, and the gate in front of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Router
from litestar.config.compression import CompressionConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp

from perdure.domain.access import Identity
from perdure.runtime.app import Perdure
from perdure.runtime.wiring import Stores
from perdure.surfaces.web import api, pages, probes
from perdure.surfaces.web.authentication import Authentication, Nobody, authentication_of
from perdure.surfaces.web.context import Web
from perdure.surfaces.web.description import AnyJson, description
from perdure.surfaces.web.gate import LOOPBACK_NAMES, Gate
from perdure.surfaces.web.live import Live
from perdure.surfaces.web.pages.frame import compile_templates
from perdure.surfaces.web.problems import answer_problem
from perdure.surfaces.web.repeats import LONGEST_BODY, Repeats
from perdure.surfaces.web.routing import authorised

API = "/api/v1"
STREAMS = ["/live", f"{API}/stream"]
"""Never compressed: a compressor would hold back what is to be seen at once."""


def web_application(
    app: Perdure,
    *,
    authentication: Authentication | None = None,
    anywhere: bool = False,
    live: Live | None = None,
) -> ASGIApp:
    """The web face of an application object, as one ASGI application to be served or mounted anywhere.

    Who may come in is said by `authentication`, or else by the settings. Without any, only callers on this machine are let
    in, unless `anywhere` says otherwise. Who serves it can end the streams of `live` before the server waits for their end.
    Raises InvalidSettings.
    """
    settings = app.settings
    chosen = authentication or authentication_of(settings, anywhere=anywhere)
    hosts = settings.web_hosts or (LOOPBACK_NAMES if isinstance(chosen, Nobody) and not anywhere else ())
    web = Web(app, chosen, live or Live())
    inner = Repeats(_litestar(web), web)
    return Gate(inner, chosen, hosts, read_only=settings.web_read_only)


def _litestar(web: Web) -> Litestar:
    return Litestar(
        route_handlers=[
            Router(API, route_handlers=api.handlers()),
            *probes.HANDLERS,
            *pages.handlers(),
        ],
        dependencies={
            "web": Provide(_web, sync_to_thread=False),
            "stores": Provide(_stores),
            "identity": Provide(_identity, sync_to_thread=False),
        },
        guards=[authorised],
        exception_handlers={Exception: answer_problem},
        openapi_config=description(),
        plugins=[AnyJson()],
        compression_config=CompressionConfig(backend="gzip", gzip_compress_level=5, exclude=STREAMS),
        request_max_body_size=LONGEST_BODY,
        lifespan=[_living],
        state=State({"web": web}, deep_copy=False),
        logging_config=None,
    )


@asynccontextmanager
async def _living(app: Litestar) -> AsyncIterator[None]:
    web: Web = app.state.web
    compiling = asyncio.create_task(compile_templates())
    try:
        yield
    finally:
        compiling.cancel()
        await asyncio.gather(compiling, return_exceptions=True)
        await web.close()


def _web(state: State) -> Web:
    web: Web = state.web
    return web


async def _stores(state: State) -> Stores:
    web: Web = state.web
    return await web.stores()


def _identity(request: Request[Any, Any, Any]) -> Identity:
    identity: Identity = request.scope["user"]
    return identity
