"""The samples of the workers."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from perdure.domain.sample import METRICS, Sample
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

OTHERS = 4
COLUMNS = (*METRICS, "claims", "claim_ms")


class PostgresSamples:
    """Writes samples in batches, and reads them."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("samples", schema)

    async def write(self, samples: Sequence[Sample], *, ages_ms: Sequence[int]) -> None:
        """Keep samples, each so many milliseconds old, in one statement."""
        columns = [[getattr(one, metric) for one in samples] for metric in COLUMNS]
        await self._database.fetch(
            self._sql["write"], list(ages_ms), [one.worker_id for one in samples], *columns
        )

    async def latest(self, worker_id: UUID, *, limit: int) -> Sequence[Sample]:
        """The newest samples of a worker, oldest first."""
        rows = await self._database.fetch(self._sql["latest"], worker_id, limit)
        return [sample_of(row) for row in reversed(rows)]

    async def of_others(self, worker_id: UUID, *, limit: int) -> Sequence[Sequence[Sample]]:
        """The newest samples of up to four living workers that know the same kinds, oldest first, one series for each."""
        rows = await self._database.fetch(self._sql["of_others"], worker_id, limit, OTHERS)
        return [list(series) for _, series in groupby(map(sample_of, rows), key=attrgetter("worker_id"))]


def sample_of(row: Row) -> Sample:
    """A row of `worker_samples`."""
    return Sample(worker_id=row["worker_id"], at=row["at"], **{name: row[name] for name in COLUMNS})
