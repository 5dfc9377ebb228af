"""Runs blocking handlers in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from perdure.domain.lease import Lease
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
    told,
)
from perdure.services.execution import Attempt, Done


class _Going:
    """Whether a call that waits in the pool is to be made at all."""

    __slots__ = ("called_off",)

    def __init__(self) -> None:
        self.called_off = False


class ThreadRunner:
    """The runner of blocking handlers.

    A thread cannot be killed. One that is past its time is settled as timed out and left behind, and its process
    is recycled; one that is asked to stop goes on until it looks at `Context.cancelled` or ends.
    """

    def __init__(
        self,
        kinds: Kinds,
        line_of: Callable[[Attempt], AttemptLine],
        capacity: int,
        *,
        max_payload: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._kinds = kinds
        self._line_of = line_of
        self._max_payload = max_payload
        self._pool = ThreadPoolExecutor(max_workers=capacity, thread_name_prefix="perdure-job")

    def start(self, attempt: Attempt, done: Done) -> None:
        loop, lease = asyncio.get_running_loop(), attempt.lease
        line = self._line_of(attempt)
        going = _Going()
        try:
            here = copy_context()  # what is bound to the logs, and the span of the attempt
            future = loop.run_in_executor(self._pool, lambda: here.run(self._call, lease, line, going))
        except (
            RuntimeError
        ) as error:  # no thread can be started, though the pool has put the call into its line
            going.called_off = True
            loop.call_soon(done, attempt, after_fault(self._kinds, attempt, error))
            return
        attempt.handle = future
        future.add_done_callback(lambda ended: self._ended(attempt, line, ended, done))

    def stop(self, attempt: Attempt) -> bool:
        return False

    def timed_out(self, attempt: Attempt) -> Ending:
        return after_stop(self._kinds[attempt.lease.kind], attempt)

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _call(self, lease: Lease, line: AttemptLine, going: "_Going") -> Ending | None:
        if going.called_off:
            return None
        kind = self._kinds[lease.kind]
        try:
            args, kwargs = call_of(kind, lease, line, max_bytes=self._max_payload)
            value = kind.function(*args, **kwargs)
            return None if line.completed else after_value(kind, lease, value, max_bytes=self._max_payload)
        except BaseException as error:  # noqa: BLE001 - a handler that raises SystemExit fails, and ends no worker
            return after_error(kind, lease, error)

    def _ended(
        self, attempt: Attempt, line: AttemptLine, future: "asyncio.Future[Ending | None]", done: Done
    ) -> None:
        if future.cancelled():
            return
        fault = future.exception()
        if fault is not None:
            done(attempt, after_fault(self._kinds, attempt, fault))
        elif line.completed:
            finishing = self._finish(attempt, line, future.result(), done)
            attempt.handle = asyncio.get_running_loop().create_task(finishing)
        elif (ending := future.result()) is not None:
            kind = self._kinds[attempt.lease.kind]
            done(attempt, heeding(kind, attempt, ending, heeded=line.heeded))

    async def _finish(self, attempt: Attempt, line: AttemptLine, ending: Ending | None, done: Done) -> None:
        done(attempt, await told(self._kinds, attempt, line.after_complete(ending)))
