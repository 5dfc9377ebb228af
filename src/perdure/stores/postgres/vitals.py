"""How well the workers are, as their rows and samples tell."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from perdure.domain.health.fleet import Fleet, fleet
from perdure.domain.sample import Sample
from perdure.domain.score import Score
from perdure.domain.vitals import Vitals
from perdure.domain.worker import WorkerId
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rows import Row, worker_of
from perdure.stores.postgres.samples import sample_of
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

RECENT = 90


class Verdict(Protocol):
    """What is noted of a worker."""

    @property
    def score(self) -> Score: ...
    @property
    def healthy(self) -> bool: ...
    @property
    def share(self) -> float: ...
    @property
    def shadow(self) -> bool: ...


class PostgresVitals:
    """Reads what predictions rest on, and notes what comes of them."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("vitals", schema)

    async def living(self) -> Sequence[Vitals]:
        """All workers that live, the oldest first."""
        return [_vitals(row) for row in await self._database.fetch(self._sql["living"])]

    async def recent(self) -> Mapping[WorkerId, Sequence[Sample]]:
        """The newest 90 samples of each living worker within the last hour, oldest first."""
        samples = map(sample_of, await self._database.fetch(self._sql["recent"], RECENT))
        return {
            WorkerId(worker_id): list(series)
            for worker_id, series in groupby(samples, key=attrgetter("worker_id"))
        }

    async def fleet(self) -> Fleet:
        """How old workers grew, and how many failed; a planned end is none, and no failure is that of a whole silent fleet."""
        (row,) = await self._database.fetch(self._sql["fleet"])
        return fleet(row["ages"] or (), failures=row["failures"])

    async def note(self, verdicts: Mapping[WorkerId, Verdict]) -> None:
        """Keep scores and shares; an alert tells of each that fell ill or recovered."""
        if verdicts:
            await self._database.fetch(
                self._sql["note"],
                list(verdicts),
                [one.score.value for one in verdicts.values()],
                [one.healthy for one in verdicts.values()],
                [one.share for one in verdicts.values()],
                [one.shadow for one in verdicts.values()],
                ["; ".join(part.what for part in one.score.parts) for one in verdicts.values()],
            )


def _vitals(row: Row) -> Vitals:
    return Vitals(
        worker=worker_of(row),
        at=row["at"],
        age=row["age"],
        suspect=row["suspected_at"] is not None,
        healthy=row["healthy"],
        share=row["claim_share"],
        scores=tuple(row["health_scores"]),
    )
