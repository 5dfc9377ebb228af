"""A kind whose attempts went as tests of advice want them."""

from datetime import timedelta

from perdure.domain.settlement import Completed, settle
from tests.support.system import System, failure

RAN = "UPDATE perdure.job_executions SET started_at = settled_at - interval '2 s', finished_at = settled_at"


async def went(system: System, *, jobs: int = 60) -> None:
    """A kind of which one attempt in three failed, each after two seconds."""
    await system.add_many(
        jobs, args='{"width": 3, "password": 7, "huge": 1e300, "name": "x"}', timeout=timedelta(minutes=5)
    )
    leases = await system.claim(limit=jobs)
    await system.jobs.settle(
        [settle(lease, failure("boom") if n % 3 == 0 else Completed()) for n, lease in enumerate(leases)]
    )
    await system.sql.execute(RAN)
