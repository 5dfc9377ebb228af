"""Runs async handlers as tasks on the event loop."""

import asyncio
from collections.abc import Callable

from perdure.domain.payload import PAYLOAD_BYTES_MAX
from perdure.domain.settlement import Ending
from perdure.runtime.lines import AttemptLine
from perdure.runtime.runners.endings import (
    Kinds,
    after_error,
    after_fault,
    after_stop,
    after_value,
    call_of,
    heeding,
    takes_context,
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
        return isinstance(task, asyncio.Task) and task.cancel()

    def timed_out(self, attempt: Attempt) -> Ending:
        return after_stop(self._kinds[attempt.lease.kind], attempt)

    async def close(self) -> None:
        return None

    async def _run(self, attempt: Attempt, done: Done) -> None:
        try:  # as `told`, spelled out: one coroutine less for each job
            ending = await self._ending(attempt)
        except BaseException as error:  # noqa: BLE001 - a task that raised would keep its place for ever
            ending = after_fault(self._kinds, attempt, error)
        done(attempt, ending)

    async def _ending(self, attempt: Attempt) -> Ending | None:
        """Call the handler, and tell its end; None when it settled its job in its own transaction."""
        lease = attempt.lease
        kind = self._kinds[lease.kind]
        line: AttemptLine | None = None
        ending: Ending | None
        try:
            if takes_context(kind):  # a line and a context cost a sixth of the whole way of a small job
                line = self._line_of(attempt)
            args, kwargs = call_of(kind, lease, line, max_bytes=self._max_payload)
            value = await kind.function(*args, **kwargs)
            ending = (
                None
                if line and line.completed
                else after_value(kind, lease, value, max_bytes=self._max_payload)
            )
        except asyncio.CancelledError as error:
            stopped = attempt.stop_reason is not None
            ending = after_stop(kind, attempt) if stopped else after_error(kind, lease, error)
        except BaseException as error:  # noqa: BLE001 - a handler that raises SystemExit fails, and ends no worker
            ending = after_error(kind, lease, error)
        if line and line.completed:
            ending = await line.after_complete(ending)
        elif ending is not None:
            ending = heeding(kind, attempt, ending, heeded=bool(line and line.heeded))
        return ending
