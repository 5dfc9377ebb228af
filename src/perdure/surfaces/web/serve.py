"""Serves the web face by itself: one process, until it is told to end."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import uvicorn
from litestar.types import ASGIApp

from perdure.domain.errors import InvalidSettings
from perdure.runtime.app import Perdure
from perdure.runtime.settings import Settings
from perdure.runtime.wiring import connected
from perdure.surfaces.web.application import web_application
from perdure.surfaces.web.authentication import is_loopback
from perdure.surfaces.web.live import Live

GRACE_S = 5
SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def serve(
    settings: Settings,
    *,
    root_path: str = "",
    anywhere: bool = False,
    started: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM; `started` is told the address.

    Without authentication only a loopback address is taken, unless `anywhere` says that this is meant. Raises
    InvalidSettings and Unavailable before anything is answered.
    """
    check_reach(settings, anywhere=anywhere)
    async with connected(settings, application_name="perdure web: first look", redis=False):
        pass  # a wrong address or a missing schema is told now and not at the first visit
    async with served(settings, root_path=root_path, anywhere=anywhere) as server:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, server.stop)
        started(server.address)
        await server.ended()


@asynccontextmanager
async def served(
    settings: Settings, *, root_path: str = "", anywhere: bool = False
) -> AsyncIterator["Server"]:
    """The web face, served as long as this lasts. Raises InvalidSettings when the address is taken."""
    prefix = root_path.rstrip("/")
    sock = listening(settings.web_host, settings.web_port)
    app = Perdure(settings)
    try:
        live = Live()
        face = web_application(app, anywhere=anywhere, live=live)
        server = Server(face, sock, settings.web_host, prefix, live)
        try:
            yield server
        finally:
            server.stop()
            await server.ended()
    finally:
        sock.close()
        await app.close()


class Server:
    """One server that runs from its making on, until it is stopped."""

    def __init__(self, face: ASGIApp, sock: socket.socket, host: str, prefix: str, live: Live) -> None:
        config = uvicorn.Config(
            face,
            root_path=prefix,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="on",
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{sock.getsockname()[1]}{prefix}/"
        self._server = _Server(config, live)
        self._task = asyncio.create_task(self._server.serve([sock]))

    def stop(self) -> None:
        """End as soon as what is under way is answered; said twice, at once."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True

    async def ended(self) -> None:
        """Wait for the end."""
        await asyncio.wait({self._task})
        self._task.result()


def _is_news(record: logging.LogRecord) -> bool:
    """Not so of pages that somebody still watches when the server has to end: they are cut off, and come alive again by themselves."""
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and "timeout graceful shutdown exceeded" not in record.getMessage()


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals: whoever starts it decides. What is watched ends first, it would not by itself."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._live.end()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def check_reach(settings: Settings, *, anywhere: bool) -> None:
    """Refuse an address that others can reach while nobody is asked who they are. Raises InvalidSettings."""
    if settings.web_auth == "none" and not anywhere and not _is_local(settings.web_host):
        raise InvalidSettings(
            "web_host",
            f"{settings.web_host} can be reached by others, and nobody is asked who they are",
            next_step="set web_auth to token, basic, proxy-header or callback, or listen on 127.0.0.1; "
            "`--insecure-no-auth` lets everybody in",
        )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises InvalidSettings."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, event loops set TCP_NODELAY. Without it the last part of a page waits 40 ms for the visitor's machine.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(512)
    except OSError as error:
        sock.close()
        raise InvalidSettings(
            "web_port",
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            next_step="choose another port",
        ) from error
    return sock


def is_taken(host: str, port: int) -> bool:
    """Whether something listens there already."""
    try:
        listening(host, port).close()
    except InvalidSettings:
        return True
    return False


def _is_local(host: str) -> bool:
    return host == "localhost" or is_loopback(host)
