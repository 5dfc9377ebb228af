"""Attempts that end, as tests want them."""

from collections.abc import Sequence
from datetime import timedelta

from perdure.domain.settlement import Completed, Outcome, Settlement, settle
from perdure.ports import Settled
from perdure.services.completion import Settling
from tests.support.system import System, failure

RAN = "UPDATE perdure.job_executions SET started_at = settled_at - interval '2 s', finished_at = settled_at"


async def settle_each(jobs: Settling, settlements: Sequence[Settlement]) -> Settled:
    """Settle successes by themselves and all other endings by themselves, as workers do."""
    done = [s for s in settlements if s.outcome is Outcome.COMPLETED]
    others = [s for s in settlements if s.outcome is not Outcome.COMPLETED]
    told = [await jobs.settle(some) for some in (done, others) if some]
    return Settled(
        accepted=frozenset().union(*(each.accepted for each in told)),
        released=[place for each in told for place in each.released],
    )


async def went(system: System, *, jobs: int = 60) -> None:
    """A kind of which one attempt in three failed, each after two seconds."""
    await system.add_many(
        jobs, args='{"width": 3, "password": 7, "huge": 1e300, "name": "x"}', timeout=timedelta(minutes=5)
    )
    leases = await system.claim(limit=jobs)
    await settle_each(
        system.jobs,
        [settle(lease, failure("boom") if n % 3 == 0 else Completed()) for n, lease in enumerate(leases)],
    )
    await system.sql.execute(RAN)
