"""What will become of a worker, how well it is, and which worker suits best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import InvalidOption, NotFound
from perdure.domain.health.fleet import Fleet
from perdure.domain.health.foresight import Case, cases
from perdure.domain.health.trend import Trend, trend
from perdure.domain.prediction import FARTHEST, HORIZON, Prediction
from perdure.domain.sample import Sample
from perdure.domain.score import Score, score_of
from perdure.domain.vitals import Criteria, Vitals, best
from perdure.domain.worker import WorkerId


class FleetVitals(Protocol):
    """What is known of the fleet."""

    async def living(self) -> Sequence[Vitals]:
        """All workers that live."""
        ...

    async def recent(self) -> Mapping[WorkerId, Sequence[Sample]]:
        """The newest samples of each living worker, oldest first."""
        ...

    async def fleet(self) -> Fleet:
        """How old workers of this fleet grew, and how many failed."""
        ...


class Champion(Protocol):
    """What foretells a worker's failure now: a trained model, or the limits."""

    async def predictor(self) -> Callable[[Case, timedelta], Prediction]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A prediction with the score that goes with it, and the specification's baseline beside it."""

    vitals: Vitals
    prediction: Prediction
    score: Score
    trend: Trend


class Foresee:
    """Looks at living workers; changes nothing."""

    def __init__(
        self, vitals: FleetVitals, champion: Champion, *, interval: timedelta, lag_max: timedelta
    ) -> None:
        self._vitals = vitals
        self._champion = champion
        self._interval = interval
        self._lag_max = lag_max

    async def outlook(self, worker_id: UUID, *, horizon: timedelta = HORIZON) -> Outlook:
        """What is to be expected of a worker. Raises NotFound for one that does not live, InvalidOption for a horizon beyond a week."""
        if not timedelta(0) < horizon <= FARTHEST:
            raise InvalidOption("horizon", "must be above 0 and at most 7 days")
        living = await self._vitals.living()
        vitals = next((one for one in living if one.worker.id == worker_id), None)
        if vitals is None:
            raise NotFound("living worker", worker_id, next_step="see `perdure worker list`")
        predict = await self._champion.predictor()
        case = (await self._cases(living))[vitals.worker.id]
        return self._outlook(vitals, predict(case, horizon))

    async def outlooks(self, *, horizon: timedelta = HORIZON) -> Sequence[Outlook]:
        """The same of all living workers in one look, the likeliest failure first."""
        living = await self._vitals.living()
        predict = await self._champion.predictor()
        known = await self._cases(living)
        found = [self._outlook(vitals, predict(known[vitals.worker.id], horizon)) for vitals in living]
        return sorted(found, key=lambda one: (-one.prediction.probability, one.vitals.worker.name))

    async def optimal_worker(self, criteria: Criteria) -> Vitals | None:
        """The healthiest worker that fits, of equally healthy ones the least loaded; None when none fits."""
        return best(await self._vitals.living(), criteria)

    def _outlook(self, vitals: Vitals, prediction: Prediction) -> Outlook:
        return Outlook(
            vitals=vitals,
            prediction=prediction,
            score=score_of(prediction, suspect=vitals.suspect),
            trend=trend(vitals.scores, seconds_per_score=self._interval.total_seconds()),
        )

    async def _cases(self, living: Sequence[Vitals]) -> dict[WorkerId, Case]:
        return cases(living, await self._vitals.recent(), await self._vitals.fleet(), lag_max=self._lag_max)
