"""An event loop in virtual time for many simulated processes at once: a seed decides whose turn it is.

Each process has a queue of its own, served in order as a real loop serves it; between processes the choice is random. A process
can be paused, when nothing of it runs until it goes on, and killed, when nothing of it ever runs again.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

SPIN_MAX = 100_000
"""So many callbacks without any time going by are an endless loop."""


class Process:
    """One simulated process of a host: what runs in its context is its own."""

    __slots__ = ("alive", "code", "host", "name", "on_end", "paused", "queue", "waiting")

    def __init__(self, name: str, host: Any = None) -> None:
        self.name = name
        self.host = host
        self.alive = True
        self.paused = False
        self.code = 0
        self.queue: deque[Turn] = deque()
        self.waiting = False
        self.on_end: list[Callable[[], None]] = []


PROCESS: ContextVar[Process] = ContextVar("process")


class ProcessEnded(BaseException):
    """Ends what is under way in a simulated process that has exited; nothing of it is left to run."""


class Turn(asyncio.TimerHandle):
    """A callback that waits for its turn or its time; the loop's own handles cost twice as much."""

    __slots__ = ("process",)

    def __init__(  # the handles of asyncio ask the loop about debugging again and again
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context, process: Process
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self.process = process

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]


class Stuck(Exception):
    """Nothing is left to run, or everything runs without time going by."""


class SimulatedLoop:
    """The loop of one simulation: as much of `asyncio.AbstractEventLoop` as tasks, futures and streams ask for."""

    def __init__(self, random: Random) -> None:
        self._as_loop: Any = self
        self._random = random.random
        self._now = 0.0
        self._timers: list[tuple[float, int, Turn]] = []
        self._runnable: list[Process] = []
        self._count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._closed = False
        self.steps = 0
        self.world = Process("world")
        self.errors: list[dict[str, Any]] = []

    # ---- what asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self._as_loop)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self._as_loop, name=name or "", context=context)
        self._tasks.append(task)  # or a task that nobody waits for could end with the garbage, at any time
        return task

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context or copy_context()
        turn = Turn(callback, args, context, context.get(PROCESS, self.world))
        self._queue(turn)
        return turn

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context or copy_context()
        turn = Turn(callback, args, context, context.get(PROCESS, self.world))
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, turn))
        return turn

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Skipped when its time comes."""

    # ---- processes

    def pause(self, process: Process) -> None:
        process.paused = True
        self._forget(process)

    def resume(self, process: Process) -> None:
        process.paused = False
        if process.queue and process.alive:
            self._offer(process)

    def kill(self, process: Process, code: int = -9) -> None:
        """End a process at once: no finally, no goodbye."""
        if not process.alive:
            return
        process.alive, process.code = False, code
        process.queue.clear()
        self._forget(process)
        for told in process.on_end:
            told()

    def _queue(self, turn: Turn) -> None:
        process = turn.process
        if process.alive and not self._closed:
            process.queue.append(turn)
            if not process.waiting and not process.paused:
                process.waiting = True
                self._runnable.append(process)

    def _offer(self, process: Process) -> None:
        process.waiting = True
        self._runnable.append(process)

    def _forget(self, process: Process) -> None:
        if process.waiting:
            process.waiting = False
            self._runnable.remove(process)

    # ---- running

    def run_until(self, done: Callable[[], bool]) -> None:
        """Run until `done` holds, asked whenever time goes by. Raises Stuck when nothing is left to run."""
        asyncio._set_running_loop(self._as_loop)
        try:
            while not done():
                self._run_all_ready()
                self._go_on()
        finally:
            asyncio._set_running_loop(None)

    def _run_all_ready(self) -> None:
        """Run everything that can run now, a callback of a random process at a time."""
        runnable, random = self._runnable, self._random
        spin = 0
        while runnable:
            at = int(random() * len(runnable)) if len(runnable) > 1 else 0
            process = runnable[at]
            turn = process.queue.popleft()
            if not process.queue:
                process.waiting = False
                runnable[at] = runnable[-1]
                runnable.pop()
            if not turn._cancelled:
                with suppress(ProcessEnded):
                    turn._context.run(turn._callback, *turn._args)
            spin += 1
            if spin > SPIN_MAX:
                raise Stuck("callbacks run for ever without time going by")
        self.steps += spin

    def _go_on(self) -> None:
        """Let time go by until the next timers are due."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is left to run")
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            turn = heapq.heappop(timers)[2]
            if not turn._cancelled:
                self._queue(turn)

    def close(self) -> None:
        """Forget everything; what still waits is closed, and nobody listens to what it has to say about it."""
        self._closed = True
        self._timers.clear()
        self._runnable.clear()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done() and (coroutine := task.get_coro()) is not None:
                with suppress(BaseException):
                    coroutine.close()
        self._tasks.clear()
