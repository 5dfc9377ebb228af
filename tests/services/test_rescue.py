"""Verdicts on workers that fell silent, and what they mean for their jobs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from perdure.domain.job import JobState
from perdure.domain.lease import Lease
from perdure.domain.settlement import ALONE, Settlement
from perdure.domain.worker import WorkerId
from perdure.ports import LeaseOf, Settled
from perdure.services.rescue import Rescue, Rules

NOW = datetime.now(UTC)


class Lost:
    """One job whose host dies with it again and again."""

    def __init__(self, *, isolated: bool) -> None:
        self.lease = Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 4, None, None, NOW, NOW)
        self.isolated = isolated
        self.last: Settlement | None = None

    async def of_dead(self, *, limit: int) -> Sequence[LeaseOf]:
        return [LeaseOf(lease=self.lease, worker_id=WorkerId(uuid4()), process=1, isolated=self.isolated)]

    async def overdue(self, *, limit: int) -> Sequence[LeaseOf]:
        return []

    async def declare_dead(self, silent_for: timedelta) -> Sequence[WorkerId]:
        return []

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        self.last = settlements[0]
        self.lease = msgspec.structs.replace(
            self.lease, token=uuid4(), crashes=self.last.crashes, suspicion=self.last.suspicion
        )
        return Settled(accepted=frozenset([self.last.token]))


def rescue_of(lost: Any) -> Rescue:
    rules = Rules(dead_after=timedelta(seconds=15), crash_limit=3, interruption_limit=50)
    return Rescue(lost, lost, lost, lost, rules=rules, seeing_for=lambda: timedelta(minutes=1))


async def test_a_job_that_takes_its_host_with_it_again_and_again_ends_discarded() -> None:
    """As when the memory limit of a container kills all that runs in it, the supervisor too."""
    lost = Lost(isolated=False)
    rescue = rescue_of(lost)
    for _ in range(2):
        await rescue.run_once()
        assert lost.last is not None
        assert lost.last.crashes == 0, "power cuts are nobody's fault"
    assert lost.lease.suspicion >= ALONE
    lost.isolated = True
    states = []
    for _ in range(3):
        await rescue.run_once()
        assert lost.last is not None
        states.append(lost.last.state)
    assert states == [JobState.AVAILABLE, JobState.AVAILABLE, JobState.DISCARDED]
    assert lost.last is not None
    assert "crashed its process 3 times while running alone" in lost.last.cause


@pytest.mark.parametrize("isolated", [False, True])
async def test_no_verdict_without_sight(isolated: bool) -> None:
    class Eager(Lost):
        async def declare_dead(self, silent_for: timedelta) -> Sequence[WorkerId]:
            raise AssertionError("judged while blind")

    lost = Eager(isolated=isolated)
    rules = Rules(dead_after=timedelta(seconds=15), crash_limit=3, interruption_limit=50)
    blind: Any = lost
    rescue = Rescue(blind, blind, blind, blind, rules=rules, seeing_for=lambda: timedelta(seconds=14))
    assert (await rescue.run_once()).dead == 0
