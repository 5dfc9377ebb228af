"""When a score becomes an alarm: levels from a budget of false alarms, raised while scores run high, repeats held back."""

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from perdure.domain.errors import InvalidInput
from perdure.domain.health.arrays import ArrayLike, Floats, np, vector

DAY_ROWS = 288
LAG = 12
USUAL = 0.95
MERGE = 9
QUIET = 12
RAISE_MAX = 4.0


class Level(IntEnum):
    """How serious an alarm is; the advisory deviation of one metric goes from 2 to 5 on the same scale."""

    NONE = 0
    NOTICE = 2
    WARNING = 3
    ALARM = 4
    GRAVE = 5


@dataclass(frozen=True, slots=True)
class Budget:
    """The levels of one detector: scores above `warning` and `alarm`, and the usual upper score in training."""

    warning: float
    alarm: float
    usual: float

    def level(self, score: float, raised: float = 1.0) -> Level:
        if not score > self.warning * raised:
            return Level.NONE
        if score <= self.alarm * raised:
            return Level.WARNING
        return Level.GRAVE if score > 2 * self.alarm * raised else Level.ALARM


def budget(scores: ArrayLike, *, rows_per_day: float, warnings: float = 1.0, alarms: float = 0.25) -> Budget:
    """Levels that training scores would have passed in that many episodes a day; alarms within 9 rows are one episode.

    With less than a day for each allowed episode the level is a tenth above the highest score seen: fewer data give a
    less eager detector. Raises InvalidInput without scores.
    """
    known = vector(scores, field="scores")
    known = known[np.isfinite(known)]
    if len(known) == 0:
        raise InvalidInput("scores", "are empty; levels come from scores of training rows")
    days = len(known) / rows_per_day
    return Budget(
        warning=_level(known, allowed=warnings * days),
        alarm=_level(known, allowed=alarms * days),
        usual=float(np.quantile(known, USUAL)),
    )


def raised(scores: ArrayLike, usual: float, *, before: ArrayLike = ()) -> Floats:
    """By what the levels are multiplied at each row: 1, or how far the last day's usual upper score exceeds training's.

    It is taken anew every 12 rows, from rows before them, and is at most 4. `before` are scores that came before.
    """
    watch = Raised(usual)
    for score in vector(before, field="before"):
        watch.update(float(score))
    return np.array([watch.update(float(score)) for score in vector(scores, field="scores")])


@dataclass(slots=True)
class Raised:
    """The same for scores that come one by one."""

    usual: float
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=DAY_ROWS))
    _rows: int = 0
    _factor: float = 1.0

    def update(self, score: float) -> float:
        """The factor that holds for this score, which is then remembered."""
        if self._rows % LAG == 0 and len(self._recent) >= DAY_ROWS // 4:
            now = float(np.quantile(np.array(self._recent), USUAL))
            self._factor = min(max(now / max(self.usual, 1e-9), 1.0), RAISE_MAX)
        self._rows += 1
        self._recent.append(score)
        return self._factor


@dataclass(slots=True)
class Repeats:
    """Holds an alarm back unless its score beats every score of the last `quiet` rows."""

    quiet: int = QUIET
    _recent: deque[float] = field(default_factory=deque)

    def new(self, score: float) -> bool:
        """Whether this score tells something new."""
        beats = all(score > one for one in self._recent)
        self._recent.append(score)
        if len(self._recent) > self.quiet:
            self._recent.popleft()
        return beats


def _level(scores: Floats, *, allowed: float) -> float:
    """The lowest level that `scores` passed in at most `allowed` episodes."""
    if allowed < 1:
        return float(scores.max()) * 1.1
    levels = np.unique(np.quantile(scores, np.linspace(0.5, 1.0, 2000)))
    low, high = 0, len(levels) - 1
    while (
        low < high
    ):  # episodes merge as the level falls, so that it is not exactly monotone: good enough for a budget
        middle = (low + high) // 2
        low, high = (low, middle) if episodes(scores > levels[middle]) <= allowed else (middle + 1, high)
    return float(levels[low])


def episodes(marks: np.ndarray) -> int:
    """Runs of marks, those within 9 rows counted as one."""
    at = np.flatnonzero(marks)
    return int(len(at) > 0) + int((np.diff(at) > MERGE).sum())
