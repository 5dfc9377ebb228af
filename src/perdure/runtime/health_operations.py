"""The specification's operations on the health of workers, by name; they call the same services as everything else."""

from typing import TYPE_CHECKING
from uuid import UUID

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.evacuation import Evacuation
from perdure.domain.prediction import HORIZON, Prediction
from perdure.domain.vitals import Criteria, Vitals
from perdure.ports import By
from perdure.runtime.model_operations import ModelOperations
from perdure.services.assess import Assessment
from perdure.services.evacuate import AT_ONCE, GRACE, Terms
from perdure.services.foresee import Outlook

if TYPE_CHECKING:
    from perdure.runtime.app import Perdure


ANY = Criteria()


class HealthOperations:
    """predictFailure, detectAnomalies, getOptimalWorker, evacuateWorker, and their companions."""

    def __init__(self, app: "Perdure") -> None:
        self._app = app
        self.models = ModelOperations(app)

    async def detect_anomalies(self, worker_id: UUID) -> Assessment:
        """What is unusual in the newest sample of a worker.

        `.anomalies` are the metrics more than two standard deviations off, by up to a hundred samples before (advice);
        `.detected` is what the detector found, with its severity and the metrics to blame.
        """
        return await (await self._app.stores()).assess.detect_anomalies(worker_id)

    async def predict_failure(self, worker_id: UUID, *, horizon: Duration = HORIZON) -> Prediction:
        """Whether and when a worker will fail, why, and what to do; `.method` says by which model, or by `limits` without one.

        Raises NotFound for a worker that does not live, InvalidOption for a horizon beyond a week.
        """
        return (await self.outlook(worker_id, horizon=horizon)).prediction

    async def outlook(self, worker_id: UUID, *, horizon: Duration = HORIZON) -> Outlook:
        """The prediction with the health score that goes with it, in parts, and the specification's baseline `trend`."""
        foresee = (await self._app.stores()).foresee
        return await foresee.outlook(worker_id, horizon=parse_duration(horizon, "horizon"))

    async def optimal_worker(self, criteria: Criteria = ANY) -> Vitals | None:
        """The healthiest worker that fits, of equally healthy ones the least loaded; None when none fits."""
        return await (await self._app.stores()).foresee.optimal_worker(criteria)

    async def cordon(self, worker_id: UUID, *, actor: str = "program", reason: str = "") -> bool:
        """Have a worker take nothing new; what it runs goes on. False when it was so already. Raises NotFound or Conflict."""
        return await (await self._app.stores()).evacuate.cordon(worker_id, By(actor=actor, reason=reason))

    async def uncordon(self, worker_id: UUID, *, actor: str = "program", reason: str = "") -> bool:
        """Let a cordoned worker take new work again. Raises NotFound, or Conflict while it drains."""
        return await (await self._app.stores()).evacuate.uncordon(worker_id, By(actor=actor, reason=reason))

    async def evacuate(
        self,
        worker_id: UUID,
        *,
        grace: Duration = GRACE,
        at_once: int = AT_ONCE,
        dry_run: bool = False,
        by: By | None = None,
    ) -> Evacuation:
        """Move a worker's jobs to others and have it end; returns when that has begun.

        Jobs that have not started go at once; what runs has `grace` to end and is then given back, burning no attempt.
        A worker that cannot be reached loses its leases after that. Raises NotFound, or Conflict when `at_once` workers are
        being evacuated already.
        """
        terms = Terms(grace=parse_duration(grace, "grace"), at_once=at_once, dry_run=dry_run)
        return await (await self._app.stores()).evacuate.evacuate(worker_id, by or By(actor="program"), terms)
