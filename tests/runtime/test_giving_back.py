"""What a process that ended still held: all of it goes back, and only what ran is to blame."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from perdure.domain.lease import Lease
from perdure.domain.settlement import Outcome, Settlement
from perdure.domain.worker import WorkerId
from perdure.ports import LeaseOf, Settled
from perdure.runtime import giving_back
from perdure.runtime.children import ChildProcess
from perdure.runtime.giving_back import GivingBack
from perdure.runtime.settings import Settings


class Held:
    """Leases of ended processes; each list is what one look finds."""

    def __init__(self, *looks: int) -> None:
        self.looks = list(looks)
        self.tokens = [uuid4() for _ in range(sum(max(0, look) for look in looks))]
        self._untold = iter(self.tokens)
        self.outcomes: list[Outcome] = []
        self.crashes: list[int] = []

    async def of_process(self, worker_id: WorkerId, process: int, *, limit: int) -> Sequence[LeaseOf]:
        count = self.looks.pop(0) if self.looks else 0
        if count < 0:
            raise RuntimeError("the statement was cancelled by an administrator")
        return [
            LeaseOf(
                lease=Lease(uuid4(), next(self._untold), 1, 1, 1, 0, 0, 0, "{}", 3, 4, None, None, 0, 0),
                worker_id=worker_id,
                process=process,
                isolated=False,
            )
            for _ in range(count)
        ]

    async def settle_unlocked(self, settlements: Sequence[Settlement]) -> Settled:
        self.outcomes += [settlement.outcome for settlement in settlements]
        self.crashes += [settlement.crashes for settlement in settlements]
        return Settled(accepted=frozenset(settlement.token for settlement in settlements))


def dead(*ran: UUID) -> ChildProcess:
    """A process that died while it ran these attempts."""
    child = ChildProcess(1, isolated=False)
    child.ran = frozenset(ran)
    return child


async def give_back(held: Held, child: ChildProcess) -> None:
    stores: Any = SimpleNamespace(leases=held, jobs=held, dispatch=None)
    settings = Settings(database_url=SecretStr("postgresql://localhost/none"))
    await GivingBack(stores, asyncio.Event(), settings).run(WorkerId(uuid4()), child, "was killed")


async def test_a_claim_that_is_committed_after_the_death_of_its_process_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was under way in the database: the first look finds nothing, and the job has never started."""
    monkeypatch.setattr(giving_back, "LATE_CLAIMS_S", (0.01, 0.01))
    held = Held(1, 0, 1)
    await give_back(held, dead(held.tokens[0]))
    assert held.outcomes == [Outcome.CRASHED, Outcome.RELEASED]
    assert held.crashes == [1, 0]


async def test_the_rest_of_many_leases_is_not_taken_for_a_job_that_ran_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giving_back, "LATE_CLAIMS_S", ())
    held = Held(2, 1)
    await give_back(held, dead(*held.tokens))
    assert held.crashes == [0, 0, 0]
    assert held.outcomes == [Outcome.CRASHED] * 3


async def test_a_job_that_was_claimed_and_had_not_started_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giving_back, "LATE_CLAIMS_S", ())
    held = Held(1)
    await give_back(held, dead())
    assert (held.outcomes, held.crashes) == ([Outcome.INTERRUPTED], [0])


async def test_only_what_ran_is_to_blame_whatever_else_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_back, "LATE_CLAIMS_S", ())
    held = Held(3)
    await give_back(held, dead(held.tokens[1]))
    assert held.outcomes == [Outcome.INTERRUPTED, Outcome.CRASHED, Outcome.INTERRUPTED]
    assert held.crashes == [0, 1, 0]


async def test_when_nothing_can_be_told_all_are_suspects_and_none_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(giving_back, "LATE_CLAIMS_S", ())
    held = Held(1)
    await give_back(held, ChildProcess(1, isolated=False))
    assert (held.outcomes, held.crashes) == ([Outcome.CRASHED], [0])


async def test_an_unforeseen_error_does_not_leave_leases_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_back, "LATE_CLAIMS_S", ())
    held = Held(-1, 1)
    await give_back(held, dead(*held.tokens))
    assert held.outcomes == [Outcome.CRASHED]
