"""What a process counts of its attempts on their way to be settled."""

from datetime import timedelta
from uuid import uuid4

import pytest

from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending, ErrorReport, Failed
from perdure.ports import Settled
from perdure.runtime.tally import EVERY, Tally
from perdure.services.completion import Bounds, Completion

FAILED = Failed(error=ErrorReport(type="Error", message="no"), retry_in=timedelta(0))
TIMED_OUT = Failed(error=ErrorReport(type="Error", message="late"), retry_in=timedelta(0), timed_out=True)


class Nobody:
    """Stands where the stores are; nothing is settled here."""

    async def settle(self, settlements: object) -> Settled:
        raise AssertionError


def tally() -> Tally:
    bounds = Bounds(unsettled_max=10_000, crash_limit=3, interruption_limit=3)
    return Tally(Completion(Nobody(), Nobody(), uuid4(), bounds=bounds))  # type: ignore[arg-type]


def lease(kind: str = "app.work", waited_s: float = 0.0) -> Lease:
    claimed = int(waited_s * 1_000_000)
    return Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 3, None, None, 0, claimed, kind=kind)


def run(counted: Tally, ending: Ending, took: float, *, times: int = 1, kind: str = "app.work") -> None:
    for _ in range(times):
        counted.add(lease(kind, waited_s=2.0), ending, 100.0, 100.0 + took)


def test_failures_and_time_outs_are_counted_exactly_and_all_are_handed_on() -> None:
    counted = tally()
    run(counted, FAILED, 1.0, times=3)
    run(counted, TIMED_OUT, 1.0, times=2)
    run(counted, Completed(result=None), 1.0)
    figures = counted.figures()
    assert (figures["failed"], figures["timed_out"]) == (5, 2)
    assert len(counted.tokens) == 6


def test_a_kind_that_takes_twice_as_long_as_usual_is_seen_whatever_other_kinds_take() -> None:
    counted = tally()
    for _ in range(100):
        run(counted, Completed(result=None), 0.01, times=EVERY, kind="quick")
        run(counted, Completed(result=None), 10.0, times=EVERY, kind="slow")
    assert counted.figures()["slowness"] == pytest.approx(1.0, rel=0.05)
    for _ in range(100):
        run(counted, Completed(result=None), 0.02, times=EVERY, kind="quick")
        run(counted, Completed(result=None), 20.0, times=EVERY, kind="slow")
    assert 1.6 < counted.figures()["slowness"] < 2.1


def test_jobs_of_microseconds_are_not_slow_for_a_machine_that_is_starved() -> None:
    counted = tally()
    run(counted, Completed(result=None), 0.00002, times=100 * EVERY)
    run(counted, Completed(result=None), 0.008, times=100 * EVERY)
    assert counted.figures()["slowness"] == 1.0


def test_few_jobs_are_timed_each_so_that_their_decay_shows() -> None:
    """Four a second that grow five times as long within a minute: no fifty of them may pass for what is usual meanwhile."""
    counted, now = tally(), 0.0
    for step in range(80 + 240):
        took = 0.02 * 5 ** max(0.0, (step - 80) / 240)
        counted.add(lease(), Completed(result=None), now, now + took)
        now += 0.25
    assert counted.figures()["slowness"] > 4.0


def test_the_wait_before_a_claim_is_told() -> None:
    counted = tally()
    run(counted, Completed(result=None), 0.01, times=200 * EVERY)
    assert counted.figures()["queue_wait_ms"] == pytest.approx(2000, rel=0.01)
