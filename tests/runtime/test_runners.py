"""Runners tell how an attempt has ended whatever fails around its handler; one untold would keep its place for ever."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from perdure.domain.errors import DatabaseUnavailable
from perdure.domain.lease import Lease
from perdure.domain.settlement import Cancelled, Completed, Ending, Failed
from perdure.runtime.lines import AttemptLine
from perdure.runtime.loading import load_kinds
from perdure.runtime.runners.loop import LoopRunner
from perdure.runtime.runners.process_main import Hello
from perdure.runtime.runners.processes import ProcessRunner
from perdure.runtime.runners.threads import ThreadRunner
from perdure.services.execution import Attempt, Runner, StopReason
from tests.support.waiting import eventually

APP = "tests.support.fault_jobs"
KINDS = load_kinds(APP)
NOW = datetime.now(UTC)
RUNNERS: dict[str, Callable[..., Runner]] = {
    "async": LoopRunner,
    "thread": ThreadRunner,
    "process": ProcessRunner,
}
MODES = pytest.mark.parametrize("mode", RUNNERS)


class Refusing:
    """A store that answers each call with an error, and says how often it was asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    async def report_progress(self, lease: Lease, fraction: float, note: str) -> None:
        self.asked += 1
        raise self.error

    async def holds(self, lease: Lease) -> bool:
        self.asked += 1
        raise self.error


def attempt_at(kind: str, args: str = "{}") -> Attempt:
    name = f"{APP}.{kind}"
    return Attempt(Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, args, 3, 4, None, None, 0, 0, kind=name), 0.0)


class Run:
    """One attempt in a runner of a mode, with a line to a store that refuses."""

    def __init__(self, mode: str, attempt: Attempt, store: Refusing, *, completed: bool = False) -> None:
        def line_of(given: Attempt) -> AttemptLine:
            line = AttemptLine(given, store, "perdure")
            line.completed = completed
            return line

        more: dict[str, tuple[Any, ...]] = {"async": (), "thread": (1,), "process": (Hello(APP, "perdure"),)}
        self.runner = RUNNERS[mode](KINDS, line_of, *more[mode])
        self.attempt = attempt
        self.ended: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
        self.runner.start(attempt, lambda _, ending: self.ended.set_result(ending))

    async def ending(self) -> Ending | None:
        try:
            return await asyncio.wait_for(self.ended, 30)
        finally:
            await self.runner.close()


@MODES
async def test_what_fails_after_the_handler_has_ended_is_told_as_a_failure(mode: str) -> None:
    """As when the look whether the handler's own transaction has committed meets a limit of its role."""
    store = Refusing(RuntimeError("canceling statement due to statement timeout"))
    ending = await Run(mode, attempt_at(f"tells_{mode}"), store, completed=True).ending()
    assert isinstance(ending, Failed)
    assert "could not be run to its end: " in ending.cause
    assert "statement timeout" in ending.cause


@MODES
async def test_a_kind_that_is_gone_is_told_as_a_failure(mode: str) -> None:
    """As when the application is loaded anew without it."""
    attempt = attempt_at("is_gone")
    if mode == "process":
        attempt.stop_reason = StopReason.DRAINED  # or its process would look, and fail, by itself
    assert isinstance(await Run(mode, attempt, Refusing(RuntimeError())).ending(), Failed)


@MODES
async def test_a_report_of_progress_that_cannot_be_kept_fails_no_handler(mode: str) -> None:
    store = Refusing(RuntimeError("canceling statement due to statement timeout"))
    ending = await Run(mode, attempt_at(f"tells_{mode}"), store).ending()
    assert isinstance(ending, Completed)

    async def asked() -> int:
        return store.asked

    assert await eventually(asked)


async def test_an_attempt_that_is_stopped_after_its_handler_has_ended_ends_for_that_reason() -> None:
    store = Refusing(DatabaseUnavailable("away"))
    run = Run("async", attempt_at("tells_async"), store, completed=True)

    async def asked() -> int:
        return store.asked

    await eventually(asked)
    run.attempt.stop_reason = StopReason.CANCELLED
    run.runner.stop(run.attempt)
    assert isinstance(await run.ending(), Cancelled)


@MODES
async def test_an_attempt_that_is_stopped_before_its_first_step_is_told(mode: str) -> None:
    """A claim and a cancel that arrive together: a task that is cancelled before it begins runs no line of its own."""
    run = Run(mode, attempt_at(f"tells_{mode}"), Refusing(DatabaseUnavailable("away")))
    run.attempt.stop_reason = StopReason.CANCELLED
    run.runner.stop(run.attempt)
    assert isinstance(await run.ending(), Cancelled | Completed)


async def test_a_handler_for_which_no_thread_can_be_started_is_told_and_never_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool keeps the call in its line, where the next thread would find it."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    store = Refusing(RuntimeError("never asked"))
    runner = ThreadRunner(KINDS, lambda given: AttemptLine(given, store, "perdure"), 2)
    endings: asyncio.Queue[tuple[Attempt, Ending | None]] = asyncio.Queue()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        attempt = attempt_at("tells_thread")
        runner.start(attempt, lambda *told: endings.put_nowait(told))
    first, ending = await asyncio.wait_for(endings.get(), 30)
    assert (first, type(ending)) == (attempt, Failed)
    later = attempt_at("tells_thread")
    runner.start(later, lambda *told: endings.put_nowait(told))
    assert await asyncio.wait_for(endings.get(), 30) == (later, Completed())
    await runner.close()
    assert store.asked == 1
