"""What is unusual in a worker, from what it tells of itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import ExtraMissing
from perdure.domain.health.deviation import SAMPLES
from perdure.domain.sample import Anomaly, Detection, Sample, anomalies

LEARNT_FROM = 1_000
DAY = timedelta(days=1)


class Samples(Protocol):
    """The samples of the workers."""

    async def latest(self, worker_id: UUID, *, limit: int) -> Sequence[Sample]:
        """The newest samples of a worker, oldest first."""
        ...

    async def of_others(self, worker_id: UUID, *, limit: int) -> Sequence[Sequence[Sample]]:
        """The newest samples of a few workers that know the same kinds, one series for each."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a look at a worker found: `samples` is on how many the judgement rests, `newest` the last of them.

    `anomalies` are advice: metrics more than two standard deviations off, of which some always are. `detected` is what
    the detector found, which may alarm.
    """

    worker_id: UUID
    samples: int
    newest: Sample | None
    anomalies: tuple[Anomaly, ...]
    detected: Detection


class Assess:
    """Judges workers by their samples, which come every `interval`."""

    def __init__(self, samples: Samples, *, interval: timedelta) -> None:
        self._samples = samples
        self._rows_per_day = DAY / interval

    async def detect_anomalies(self, worker_id: UUID) -> Assessment:
        """What is unusual in the newest sample of a worker, as advice and as the detector sees it.

        The advice judges each metric by up to a hundred samples before it; with fewer than four samples there is none. The detector
        needs numpy and says so where it is missing.
        """
        samples = await self._samples.latest(worker_id, limit=LEARNT_FROM)
        return Assessment(
            worker_id=worker_id,
            samples=len(samples),
            newest=samples[-1] if samples else None,
            anomalies=anomalies(samples[-SAMPLES - 1 :]),
            detected=await self._detected(worker_id, samples),
        )

    async def _detected(self, worker_id: UUID, samples: Sequence[Sample]) -> Detection:
        try:
            from perdure.domain.health import detector
        except ExtraMissing as error:
            return Detection(method=f"none: {error.message}", rows=0)
        few = len(samples) < detector.FEW
        others = await self._samples.of_others(worker_id, limit=LEARNT_FROM // 4) if few else ()
        return detector.detect(samples, others, rows_per_day=self._rows_per_day)
