"""One look at the history that is kept: what can be learnt from it, and how models and limits stand on a part of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from uuid import UUID

from perdure.domain.errors import Conflict
from perdure.domain.health.arrays import Bools, Floats, np
from perdure.domain.health.calibration import log_loss
from perdure.domain.health.challenge import (
    LINEAR_FROM,
    Judgement,
    Lessons,
    deciles,
    judge,
    learn,
    shares,
    split,
    stability,
)
from perdure.domain.health.drift import NEWEST, Limits
from perdure.domain.health.failure_model import STEPS, FailureModel, decode, encode, hash_of
from perdure.domain.health.features import FEATURES, WINDOW, features
from perdure.domain.health.fleet import Fleet, fleet
from perdure.domain.health.foresight import Case, probability
from perdure.domain.health.lives import Life, Moment, failures, limits_of, moments
from perdure.domain.model import Model, NewModel, Past
from perdure.domain.prediction import LIMITS
from perdure.domain.sample import Sample

HORIZON_STEPS = 30
"""The horizon that models are judged by, in samples: five minutes at ten seconds."""

MOVED = 0.2
MOVED_ROWS_MIN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How a model and the limits stood on some moments, in how many of which a failure followed within the horizon."""

    moments: int
    failures: int
    brier: float
    brier_of_limits: float
    facts: Mapping[str, object]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The log-loss of a model, and of what is in force."""

    moments: int
    log_loss: float
    log_loss_in_force: float


class Trial:
    """Past lives as lessons. Raises Conflict when there is too little for what is asked."""

    def __init__(self, past: Past, *, interval: timedelta, lag_max: timedelta) -> None:
        self._past = past
        self._lag_max = lag_max
        self.interval_s = interval.total_seconds()
        self.horizon_s = HORIZON_STEPS * self.interval_s
        self._moments = moments(past.lives, self._limits, past.incidents)
        self.failures = failures(past.lives, self._limits, past.incidents)
        self.until = max((life.until for life in past.lives), default=datetime.min.replace(tzinfo=UTC))

    @cached_property
    def lessons(self) -> Lessons:
        """A row for each moment that can be learnt from."""
        if not self._moments:
            raise Conflict("no worker has told enough of itself yet to learn from")
        return Lessons(
            np.array([features(self._window(one)) for one in self._moments]),
            np.array([one.at.timestamp() for one in self._moments]),
            np.array([one.seconds for one in self._moments]),
            np.array([one.failed for one in self._moments]),
            np.array([one.life for one in self._moments]),
        )

    def whose(self, which: Bools) -> list[UUID]:
        """The workers of these rows."""
        return [self._past.lives[one].worker_id for one in self.lessons.unit[which]]

    def train(self, champion: FailureModel | None = None) -> tuple[NewModel, tuple[str, ...]]:
        """A new model, learnt from the older history and judged on the newest; and why it may not be relied on, if so."""
        if self.failures < LINEAR_FROM:
            raise Conflict(
                f"{self.failures} failures of workers are known; to learn from them takes {LINEAR_FROM}"
            )
        model, kind, cut = self.fitted()
        others = {} if champion is None else {"the champion": champion}
        found = self._judgement(model, self.lessons.at > cut, others)
        body = encode(model)
        new = NewModel(
            body=body,
            sha256=hash_of(body),
            kind=kind,
            trained_from=datetime.fromtimestamp(float(self.lessons.at.min()), UTC),
            trained_to=datetime.fromtimestamp(cut, UTC),
            moments=len(self._moments),
            failures=self.failures,
            facts={
                **_facts(found, self.horizon_s),
                "workers": len(self._past.lives),
                "workers_known": self._past.known,
                "numpy": np.__version__,
            },
        )
        return new, found.faults

    def fitted(self, *, seed: int = 0) -> tuple[FailureModel, str, float]:
        """The model, what it is in words, and until when it has seen history."""
        lessons = self.lessons
        parts = split(lessons, horizon=self.horizon_s)
        edges = [step * self.interval_s for step in STEPS]
        hazard, kind = learn(
            lessons, parts, edges=edges, horizon=self.horizon_s, failures=self.failures, seed=seed
        )
        seen = lessons.rows[parts.train | parts.valid]
        cuts = deciles(seen)
        return FailureModel(hazard, self.interval_s, cuts, shares(seen, cuts)), kind, parts.valid_end

    def loaded(self, model: Model, body: bytes) -> FailureModel:
        """A kept model. Raises ModelUnusable."""
        return decode(body, sha256=model.sha256, interval_s=self.interval_s, name=model.id)

    def judged(self, model: FailureModel, *, since: datetime) -> Judged:
        """How a model stands on what happened since then."""
        which = self.lessons.at > since.timestamp()
        known, true = self._known(which)
        rows = self.lessons.rows[known]
        said, by_limits = model.probability(rows, self.horizon_s), self._by_limits(known)
        found = self._judgement(model, which, {})
        return Judged(
            moments=len(rows),
            failures=int(true.sum()),
            brier=float(np.mean((said - true) ** 2)),
            brier_of_limits=float(np.mean((by_limits - true) ** 2)),
            facts=_facts(found, self.horizon_s),
            faults=found.faults,
        )

    def compared(self, shadow: FailureModel, champion: FailureModel | None, *, since: datetime) -> Compared:
        """A shadow beside what is in force, on what happened since then."""
        known, true = self._known(self.lessons.at > since.timestamp())
        rows = self.lessons.rows[known]
        said = shadow.probability(rows, self.horizon_s)
        other = self._by_limits(known) if champion is None else champion.probability(rows, self.horizon_s)
        return Compared(
            moments=len(rows), log_loss=log_loss(said, true), log_loss_in_force=log_loss(other, true)
        )

    def moved(self, model: FailureModel, *, within: timedelta = timedelta(days=1)) -> tuple[str, ...]:
        """The features that are not any more as they were when the model learnt (population stability index above 0.2), the farthest first."""
        recent = self.lessons.rows[self.lessons.at > (self.until - within).timestamp()]
        if len(recent) < MOVED_ROWS_MIN:
            return ()
        index = stability(model.shares, shares(recent, model.cuts))
        order = np.argsort(-index)
        return tuple(f"{FEATURES[one]} ({index[one]:.2f})" for one in order if index[one] > MOVED)

    @cached_property
    def _limits(self) -> Limits:
        return limits_of(self._past.lives, lag_max=self._lag_max)

    @cached_property
    def _fleet(self) -> Fleet:
        ages = [(life.until - life.samples[0].at).total_seconds() for life in self._past.lives]
        return fleet(ages, failures=sum(life.died for life in self._past.lives))

    def _known(self, which: Bools) -> tuple[Bools, Bools]:
        """Of which of these rows the outcome is known, and for those whether it is a failure."""
        known, true = self.lessons.known(self.horizon_s)
        chosen = which & known
        if not chosen.any():
            raise Conflict("nothing has happened yet that this model had not seen")
        return chosen, true[chosen]

    def _judgement(self, model: FailureModel, which: Bools, others: Mapping[str, FailureModel]) -> Judgement:
        known, true = self._known(which)
        rows = self.lessons.rows[known]
        said = {name: other.probability(rows, self.horizon_s) for name, other in others.items()}
        said[LIMITS] = self._by_limits(known)
        return judge(model.probability(rows, self.horizon_s), said, true, self.lessons.unit[known])

    def _by_limits(self, which: Bools) -> Floats:
        """What the prediction without a model would have said at these moments."""
        horizon = timedelta(seconds=self.horizon_s)
        chosen = np.flatnonzero(which)
        return np.array([probability(self._case(self._moments[one]), horizon=horizon) for one in chosen])

    def _case(self, moment: Moment) -> Case:
        life = self._life(moment)
        return Case(
            worker_id=life.worker_id,
            at=moment.at,
            age=moment.at - life.samples[0].at,
            samples=[one for one in self._window(moment) if moment.at - one.at <= WINDOW],
            fleet=self._fleet,
            limits=self._limits,
        )

    def _window(self, moment: Moment) -> tuple[Sample, ...]:
        samples = self._life(moment).samples
        return tuple(samples[max(0, moment.index + 1 - NEWEST) : moment.index + 1])

    def _life(self, moment: Moment) -> Life:
        return self._past.lives[moment.life]


def _facts(found: Judgement, horizon_s: float) -> dict[str, object]:
    return {
        "horizon_s": horizon_s,
        "quality": None if found.quality is None else _rounded(asdict(found.quality)),
        "gains": {name: _rounded(asdict(one)) for name, one in found.gains.items()},
        "faults": list(found.faults),
    }


def _rounded(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Six digits, and nothing for what is no finite number: JSON knows none."""
    return {name: round(number, 6) if np.isfinite(number) else None for name, number in numbers.items()}
