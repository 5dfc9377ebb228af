"""Runners tell how an attempt has ended whatever fails around its handler; one untold would keep its place for ever."""

import asyncio
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

        more: dict[str, tuple[Any, ...]] = {"async": (), "thread": (1,), "process": (APP, "perdure")}
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
