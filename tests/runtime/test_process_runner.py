"""Processes for CPU-bound jobs: one that dies before it has begun with a job says nothing about the job."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from perdure.domain.lease import Lease
from perdure.domain.settlement import Crashed, Ending, Interrupted
from perdure.runtime.loading import load_kinds
from perdure.runtime.runners import processes
from perdure.runtime.runners.process_main import Hello
from perdure.runtime.runners.processes import ProcessRunner
from perdure.services.execution import Attempt

APP = "tests.support.fault_jobs"
POISON = "tests.support.fault_jobs.cpu_poison"
NOW = datetime.now(UTC)


async def ending_in(app: str) -> Ending | None:
    kinds = load_kinds(APP)
    kind = next(name for name in kinds if name.endswith("cpu_poison"))
    job = Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 4, None, None, 0, 0, kind=kind)
    line: Any = type("Line", (), {"completed": False})
    runner = ProcessRunner(kinds, lambda attempt: line(), Hello(app, "perdure"))
    ended: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
    runner.start(Attempt(job, 0.0), lambda attempt, ending: ended.set_result(ending))
    ending = await asyncio.wait_for(ended, 30)
    await runner.close()
    return ending


async def test_a_job_that_kills_its_process_is_to_blame() -> None:
    ending = await ending_in(APP)
    assert isinstance(ending, Crashed)
    assert ending.alone


async def test_a_process_that_cannot_load_the_application_blames_no_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the code is replaced under a worker that runs."""
    monkeypatch.setattr(processes, "NOT_STARTED_PAUSE_S", 0.01)
    ending = await ending_in("no_such_application")
    assert isinstance(ending, Interrupted)
    assert not ending.started


async def test_a_machine_that_starts_no_processes_blames_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "NOT_STARTED_PAUSE_S", 0.01)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    ending = await ending_in(APP)
    assert isinstance(ending, Interrupted)
    assert not ending.started
