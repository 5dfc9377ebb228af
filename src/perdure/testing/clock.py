"""Time for tests: a clock that stands still, and ways to let the database's scheduled jobs come due."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.errors import IllegalTransition
from perdure.domain.options import HasId
from perdure.runtime.app import Perdure
from perdure.stores.postgres.timeshift import PostgresTimeshift

A_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class FrozenClock:
    """A clock that moves only when it is told to: for rules that take `now` and parts that take a clock."""

    moment: datetime = A_MOMENT
    _start: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return (self.moment - self._start).total_seconds()

    def advance(self, by: Duration) -> datetime:
        """Let time pass; gives the new moment."""
        self.moment += parse_duration(by, "by")
        return self.moment


async def advance(app: Perdure, by: Duration) -> int:
    """Let time pass for all jobs that wait for a moment (delays, retries, snoozes) and for unique keys that run out.

    The database's clock cannot be frozen, so their moments are moved back instead. What is measured from other times
    does not move: retry horizons, the retention, time limits, heartbeats. Gives the number of jobs that were moved.
    """
    return await (await timeshift(app)).advance(parse_duration(by, "by"))


async def make_due(app: Perdure, job: HasId | UUID) -> None:
    """Let one delayed, snoozed or retried job wait no longer. Raises NotFound or IllegalTransition."""
    job_id = job if isinstance(job, UUID) else job.id
    if not await (await timeshift(app)).make_due(job_id):
        state = (await app.jobs.get(job_id)).job.state
        raise IllegalTransition(
            job_id, state, "made due", next_step="only scheduled and retryable jobs wait for a moment"
        )


async def timeshift(app: Perdure) -> PostgresTimeshift:
    """The times in the database of an application."""
    return PostgresTimeshift((await app.stores()).database, schema=app.settings.schema)
