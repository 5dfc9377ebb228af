"""Runs async handlers as tasks on the event loop."""

import asyncio
from collections.abc import Callable

from perdure.domain.payload import PAYLOAD_BYTES_MAX
from perdure.domain.settlement import Ending
from perdure.runtime.lines import AttemptLine
from perdure.runtime.runners.endings import (
    Kinds,
    after_error,
    after_stop,
    after_value,
    call_of,
    heeding,
    takes_context,
    told,
)
from perdure.services.execution import Attempt, Done


class LoopRunner:
    """The runner of async handlers; stopping one cancels its task."""

    def __init__(
        self,
        kinds: Kinds,
        line_of: Callable[[Attempt], AttemptLine],
        *,
        max_payload: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._kinds = kinds
        self._line_of = line_of
        self._max_payload = max_payload
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, attempt: Attempt, done: Done) -> None:
        loop = self._loop
        if loop is None:  # asked once, for the answer costs a system call
            loop = self._loop = asyncio.get_running_loop()
        attempt.handle = loop.create_task(self._run(attempt, done))

    def stop(self, attempt: Attempt) -> bool:
        task = attempt.handle
        if not isinstance(task, asyncio.Task) or task.done():
            return False
        # A task that is cancelled before its first step never begins, and would tell of no end; this comes after that step.
        task.get_loop().call_soon(task.cancel)
        return True

    def timed_out(self, attempt: Attempt) -> Ending:
        return after_stop(self._kinds[attempt.lease.kind], attempt)

    async def close(self) -> None:
        return None

    async def _run(self, attempt: Attempt, done: Done) -> None:
        """Call the handler, and tell its end; None when it settled its job in its own transaction.

        What is seldom needed stands apart, since each coroutine costs a small job something.
        """
        lease = attempt.lease
        line: AttemptLine | None = None
        ending: Ending | None
        try:
            kind = self._kinds[lease.kind]
            if takes_context(kind):  # a line and a context cost a sixth of the whole way of a small job
                line = self._line_of(attempt)
            args, kwargs = call_of(kind, lease, line, max_bytes=self._max_payload)
            value = await kind.function(*args, **kwargs)
            ending = (
                None
                if line and line.completed
                else after_value(kind, lease, value, max_bytes=self._max_payload)
            )
        except BaseException as error:  # noqa: BLE001 - a handler that raises SystemExit fails, and ends no worker
            ending = await told(self._kinds, attempt, self._after(attempt, error))
        if line is not None or attempt.stop_reason is not None:
            ending = await told(self._kinds, attempt, self._heeding(attempt, line, ending))
        done(attempt, ending)

    async def _after(self, attempt: Attempt, error: BaseException) -> Ending:
        kind = self._kinds[attempt.lease.kind]
        if isinstance(error, asyncio.CancelledError) and attempt.stop_reason is not None:
            return after_stop(kind, attempt)
        return after_error(kind, attempt.lease, error)

    async def _heeding(
        self, attempt: Attempt, line: AttemptLine | None, ending: Ending | None
    ) -> Ending | None:
        if line and line.completed:
            return await line.after_complete(ending)
        if ending is None:
            return None
        kind = self._kinds[attempt.lease.kind]
        return heeding(kind, attempt, ending, heeded=bool(line and line.heeded))
