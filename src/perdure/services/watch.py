"""Keep the health of all workers: their scores, how much work each gets, and, where it is wished, their evacuation in time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import Conflict, NotFound
from perdure.domain.evacuation import Holding, moves
from perdure.domain.health.fleet import Fleet
from perdure.domain.health.foresight import Case, cases
from perdure.domain.prediction import EVACUATE_AT, HORIZON, Prediction
from perdure.domain.sample import Sample
from perdure.domain.score import Score, Steady, score_of, shares
from perdure.domain.vitals import Vitals
from perdure.domain.worker import Worker, WorkerId, WorkerState
from perdure.ports import By

PAUSE = timedelta(minutes=2)
"""Between two evacuations that nobody asked for."""

ACTOR = "perdure"
GRACE = timedelta(seconds=30)
MANY = 10_007
"""A prime, so that no pattern in ids decides which workers are in the shadow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is noted of a worker; in the `shadow` nothing is done because of it."""

    score: Score
    healthy: bool
    share: float
    shadow: bool = False


class KeptVitals(Protocol):
    """What is known of the fleet, and where verdicts are noted."""

    async def living(self) -> Sequence[Vitals]: ...

    async def recent(self) -> Mapping[WorkerId, Sequence[Sample]]: ...

    async def fleet(self) -> Fleet: ...

    async def note(self, verdicts: Mapping[WorkerId, Verdict]) -> None:
        """Keep scores and shares; an alert tells of each that fell ill or recovered."""
        ...


class Evacuations(Protocol):
    """As much of evacuations as is needed here."""

    async def holdings(self, worker_id: UUID) -> Sequence[Holding]: ...

    async def asked_within(self, pause: timedelta, actor: str) -> bool:
        """Whether somebody asked for an evacuation in so long; the events tell, so that a new leader knows too."""
        ...

    async def evacuate(self, worker_id: UUID, *, grace: timedelta, most: int, by: By) -> bool: ...


class Champion(Protocol):
    """What foretells a worker's failure now: a trained model, or the limits."""

    async def predictor(self) -> Callable[[Case, timedelta], Prediction]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """What is done about warnings: of a share of the workers nothing, so that what became of them can be learnt from."""

    lag_max: timedelta
    evacuates: bool = False
    shadow_share: float = 0.0

    def spares(self, worker_id: UUID) -> bool:
        """Whether warnings about this worker are not acted upon; the same worker always gets the same answer."""
        return worker_id.int % MANY < self.shadow_share * MANY


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """How many workers were looked at, which count as sick, which is evacuated because of this look, and by their names how likely each fails."""

    looked_at: int
    sick: Sequence[WorkerId]
    evacuated: Sequence[WorkerId] = ()
    risks: Mapping[str, float] = field(default_factory=dict)


def _stand_ins(living: Sequence[Vitals]) -> dict[WorkerId, list[WorkerId]]:
    """For each worker the others that take new work and can take all of its jobs."""
    free = [one.worker for one in living if not (one.suspect or one.worker.cordoned)]
    return {one.worker.id: [other.id for other in free if _replaces(other, one.worker)] for one in living}


def _replaces(other: Worker, worker: Worker) -> bool:
    return (
        other.id != worker.id
        and other.state is WorkerState.ACTIVE
        and set(worker.queues) <= set(other.queues)
        and set(worker.kinds) <= set(other.kinds)
        and set(worker.labels) <= set(other.labels)
    )


class Watch:
    """One look at all living workers at a time."""

    def __init__(
        self, vitals: KeptVitals, evacuations: Evacuations, champion: Champion, *, care: Care
    ) -> None:
        self._vitals = vitals
        self._evacuations = evacuations
        self._champion = champion
        self._care = care
        self._steady = Steady()

    async def run_once(self) -> WatchReport:
        """Predict, score and note."""
        living = await self._vitals.living()
        recent, fleet = await self._vitals.recent(), await self._vitals.fleet()
        predict = await self._champion.predictor()
        found = cases(living, recent, fleet, lag_max=self._care.lag_max)
        predictions = {worker_id: predict(case, HORIZON) for worker_id, case in found.items()}
        scores = {one.worker.id: score_of(predictions[one.worker.id], suspect=one.suspect) for one in living}
        values = {worker_id: score.value for worker_id, score in scores.items()}
        before = frozenset(one.worker.id for one in living if not one.healthy)
        sick = self._steady.observe(values, sick=before)
        spared = {worker_id for worker_id in scores if self._care.spares(worker_id)}
        given = shares(values, sick - spared, _stand_ins(living)) | dict.fromkeys(spared, 1.0)
        await self._vitals.note(
            {
                worker_id: Verdict(
                    score=score,
                    healthy=worker_id not in sick,
                    share=given[worker_id],
                    shadow=worker_id in spared,
                )
                for worker_id, score in scores.items()
            }
        )
        evacuated: Sequence[WorkerId] = ()
        if self._care.evacuates:
            evacuated = await self._evacuate(living, predictions, sick - spared)
        risks: dict[str, float] = {}
        for one in living:  # of workers that share a name the worst is told
            risk = predictions[one.worker.id].probability
            risks[one.worker.name] = max(risk, risks.get(one.worker.name, 0.0))
        return WatchReport(looked_at=len(living), sick=sorted(sick), evacuated=evacuated, risks=risks)

    async def _evacuate(
        self,
        living: Sequence[Vitals],
        predictions: Mapping[WorkerId, Prediction],
        sick: set[WorkerId],
    ) -> Sequence[WorkerId]:
        """Evacuate the worst of the sick, if others can take all that it holds; one in two minutes, and while most are well."""
        failing = [one for one in sick if predictions[one].probability >= EVACUATE_AT]
        if not failing or 2 * len(sick) > len(living) or await self._evacuations.asked_within(PAUSE, ACTOR):
            return ()
        for worker_id in sorted(failing, key=lambda one: -predictions[one].probability):
            if await self._let_go(worker_id, living, predictions[worker_id], sick):
                return (worker_id,)
        return ()

    async def _let_go(
        self, worker_id: WorkerId, living: Sequence[Vitals], prediction: Prediction, sick: set[WorkerId]
    ) -> bool:
        others = [one.worker for one in living if one.worker.id not in sick and not one.suspect]
        plan = moves(await self._evacuations.holdings(worker_id), others, away_from=worker_id)
        worker = next(one.worker for one in living if one.worker.id == worker_id)
        kinds = {kind for other in others for kind in other.kinds}
        queues = {queue for other in others for queue in other.queues}
        replaced = set(worker.kinds) <= kinds and set(worker.queues) <= queues
        if not replaced or any(not move.destinations for move in plan):
            return False
        why = "; ".join(reason.what for reason in prediction.reasons) or "its fleet fails often"
        reason = f"fails within {HORIZON.total_seconds():.0f} s with {prediction.probability:.0%}: {why}"
        try:
            return await self._evacuations.evacuate(
                worker_id, grace=GRACE, most=1, by=By(actor=ACTOR, reason=reason)
            )
        except (Conflict, NotFound):  # another is being evacuated, or this one has gone by itself
            return False
