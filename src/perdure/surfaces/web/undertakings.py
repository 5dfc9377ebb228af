"""What was begun from a page and takes its time: it goes on when the page is closed, and tells how far it has come."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from perdure.domain.errors import PerdureError
from perdure.domain.views import ActReport

log = structlog.get_logger()
KEPT = 100


@dataclass(slots=True)
class Undertaking:
    """One command under way, or ended: `report` is what has been done so far, `error` why it broke off."""

    key: str
    verb: str
    actor: str
    back: str
    report: ActReport | None = None
    error: PerdureError | None = None
    done: bool = False


class Undertakings:
    """The commands begun in this process; when it ends in the middle of one, what has been done stays done."""

    def __init__(self) -> None:
        self._known: dict[str, Undertaking] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(
        self,
        verb: str,
        actor: str,
        back: str,
        does: Callable[[Callable[[ActReport], None]], Awaitable[ActReport]],
    ) -> tuple[Undertaking, "asyncio.Task[None]"]:
        """Start a command; `does` is handed a function that takes the reports on the way."""
        one = Undertaking(secrets.token_urlsafe(12), verb, actor, back)
        self._known[one.key] = one
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        task = asyncio.create_task(self._run(one, does))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return one, task

    def get(self, key: str) -> Undertaking | None:
        """One of them, while it is kept."""
        return self._known.get(key)

    async def close(self) -> None:
        """Break off what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(
        self, one: Undertaking, does: Callable[[Callable[[ActReport], None]], Awaitable[ActReport]]
    ) -> None:
        def progress(report: ActReport) -> None:
            one.report = report

        try:
            one.report = await does(progress)
        except PerdureError as error:
            one.error = error
        except Exception:
            log.exception("an action failed in a way that should not happen")
            one.error = PerdureError("an error that should not happen; the server's log has it")
        finally:
            one.done = True
