"""Live pages: each view that somebody watches is rendered by one task, whoever and however many watch it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from perdure.domain.errors import PerdureError

log = structlog.get_logger()
T = TypeVar("T")

INTERVAL_S = 2.0
KEEP_ALIVE_S = 15.0
VIEWS_MAX = 100
"""With more different views than this open at once, the pace of all slows down in proportion."""
TROUBLE = "event: trouble\ndata: {}\n\n"
WELL = "event: well\ndata: \n\n"

Render = Callable[[], Awaitable[str]]


@dataclass(slots=True)
class _View:
    """What is shown now under one key, and who waits for the next version."""

    version: int = 0
    message: str = ""
    watchers: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    task: "asyncio.Task[None] | None" = None

    async def later_than(self, seen: int) -> None:
        """Wait for another version than the one that was seen."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.version != seen)


class Live:
    """Streams of versions of views; a view is rendered only while somebody watches it."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._views: dict[object, _View] = {}
        self._ended = False

    @property
    def views(self) -> int:
        """How many different views are watched."""
        return len(self._views)

    async def watch(self, key: object, render: Render) -> AsyncIterator[str]:
        """The view as server-sent events: a message whenever it has changed, a comment while it has not."""
        view = self._views.setdefault(key, _View())
        view.watchers += 1
        if view.task is None:
            view.task = asyncio.create_task(self._keep_rendering(view, render))
        seen = 0
        try:
            yield "retry: 2000\n\n"
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await view.later_than(seen)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if self._ended:
                    return
                seen = view.version
                yield view.message
        finally:
            self._leave(key, view)

    async def end(self) -> None:
        """End all streams at once: a page that was watched asks again by itself until a server answers."""
        self._ended = True
        for view in list(self._views.values()):
            async with view.changed:
                view.version += 1
                view.changed.notify_all()

    async def close(self) -> None:
        """End all rendering."""
        views, self._views = list(self._views.values()), {}
        for view in views:
            if view.task is not None:
                view.task.cancel()
        await asyncio.gather(*(view.task for view in views if view.task), return_exceptions=True)

    def _leave(self, key: object, view: _View) -> None:
        view.watchers -= 1
        if view.watchers == 0:
            if view.task is not None:
                view.task.cancel()
            if self._views.get(key) is view:
                del self._views[key]

    async def _keep_rendering(self, view: _View, render: Render) -> None:
        last = b""
        while True:
            message = await _message(render)
            digest = hashlib.blake2b(message.encode(), digest_size=16).digest()
            if digest != last:
                last = digest
                async with view.changed:
                    view.message = message
                    view.version += 1
                    view.changed.notify_all()
            await asyncio.sleep(self._interval_s * max(1.0, len(self._views) / VIEWS_MAX))


async def _message(render: Render) -> str:
    """One version as an event; what is away is told in an event of its own, and the page keeps what it shows."""
    try:
        html = await render()
    except PerdureError as error:
        return TROUBLE.format(" ".join(error.message.splitlines()))
    except Exception:
        log.exception("a live view failed in a way that should not happen")
        return TROUBLE.format("an error that should not happen; the server's log has it")
    lines = "\n".join(f"data: {line}" for line in html.splitlines())
    return f"{WELL}{lines}\n\n"


class Recent:
    """Answers of a moment ago, shared by all who ask for the same: however many do, the database is asked once."""

    def __init__(self, keep_s: float = 1.0) -> None:
        self._keep_s = keep_s
        self._asked: dict[str, tuple[float, asyncio.Future[Any]]] = {}

    async def get(self, name: str, ask: Callable[[], Awaitable[T]], keep_s: float | None = None) -> T:
        """The answer under this name, asked for anew when it is older than `keep_s`."""
        now = asyncio.get_running_loop().time()
        known = self._asked.get(name)
        if (
            known is None
            or now - known[0] > (self._keep_s if keep_s is None else keep_s)
            or _failed(known[1])
        ):
            future = asyncio.ensure_future(ask())
            self._asked[name] = (now, future)
        answer: T = await asyncio.shield(self._asked[name][1])
        return answer


def _failed(future: "asyncio.Future[Any]") -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
