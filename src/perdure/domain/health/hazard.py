"""Time to failure as a discrete-time hazard: one network gives every horizon, with censoring.

Time is cut into intervals. For each the network gives the probability that a unit which reached it fails in it
(Gensheimer and Narasimhan 2019); survival is the product of what remains. Within an interval the hazard is constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perdure.domain.errors import InvalidInput
from perdure.domain.health.arrays import ArrayLike, Bools, Floats, matrix, np, vector
from perdure.domain.health.network import Lesson, Network, Recipe, train

CLIP = 8.0  # standardised values beyond it are cut, so that a broken sensor cannot buy certainty


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Time to failure for each row: its median and the bounds that hold 80 %; infinite beyond the last edge."""

    median: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class HazardModel:
    """A fitted model; `edges` are the ends of the intervals, in the unit of the times it was fitted on."""

    edges: Floats
    center: Floats
    scale: Floats
    network: Network
    slope: float = 1.0
    offset: float = 0.0

    def survival(self, X: ArrayLike) -> Floats:
        """The share that outlives each edge (rows, edges)."""
        return np.exp(np.cumsum(self._log_survivals(X), axis=1))

    def predict(self, X: ArrayLike, horizon: float) -> Floats:
        """The probability that each row's unit fails within `horizon`, in 0..1.

        Beyond the last edge it stays at what the last edge has. Raises InvalidInput for rows of another width or a
        horizon that is not above 0.
        """
        if not horizon > 0:
            raise InvalidInput("horizon", f"is {horizon}; a time above 0 is wanted")
        starts = np.concatenate([[0.0], self.edges[:-1]])
        shares = np.clip((horizon - starts) / (self.edges - starts), 0.0, 1.0)
        return np.asarray(-np.expm1(self._log_survivals(X) @ shares))

    def lifetime(self, X: ArrayLike) -> Lifetime:
        """Median and 10-90 % bounds of the time to failure."""
        logs = np.concatenate(
            [np.zeros((len(matrix(X, field="X")), 1)), np.cumsum(self._log_survivals(X), axis=1)], axis=1
        )
        times = np.concatenate([[0.0], self.edges])
        low, median, high = (_crossing(logs, times, np.log(share)) for share in (0.9, 0.5, 0.1))
        return Lifetime(median=median, low=low, high=high)

    def mean(self, X: ArrayLike) -> Floats:
        """The mean time to failure, counting what outlives the last edge as that edge."""
        survival = self.survival(X)
        widths = np.diff(self.edges, prepend=0.0)
        before = np.concatenate([np.ones((len(survival), 1)), survival[:, :-1]], axis=1)
        return np.asarray(((before + survival) / 2) @ widths)

    def calibrated(self, slope: float, offset: float) -> "HazardModel":
        """The same model with its logits mended (Platt 1999)."""
        return replace(self, slope=slope, offset=offset)

    def _log_survivals(self, X: ArrayLike) -> Floats:
        """Logarithms of the shares that outlive each interval, of those that reached it."""
        rows = _standardised(matrix(X, field="X", columns=len(self.center)), self.center, self.scale)
        logits = self.slope * self.network.logits(rows) + self.offset
        return np.asarray(-np.logaddexp(0.0, logits))


def fit(
    X: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    *,
    edges: Sequence[float],
    recipe: Recipe | None = None,
    holdout: ArrayLike | None = None,
) -> HazardModel:
    """Learn from rows of features, each with the time until its unit failed or was last seen.

    `event` says which of the two; a unit last seen is censored and counts for the intervals that it outlived.
    `edges` rise. Rows marked in `holdout` are not learnt from: they decide when to stop; with one line of marks for each
    member of the ensemble, each has its own (cross-validation and ensemble in one). Missing values (NaN) count as
    the column's mean. Raises InvalidInput for shapes that do not fit, times below 0 and edges that do not rise.
    """
    rows = matrix(X, field="X")
    times = vector(time, field="time", length=len(rows))
    events = vector(event, field="event", length=len(rows)) > 0
    ends = _checked(np.asarray(edges, dtype=np.float64), times)
    recipe = recipe or Recipe()
    held = None if holdout is None else _held(np.asarray(holdout, dtype=bool), recipe.members, len(rows))
    learnt = rows if held is None else rows[~held.all(axis=0)]
    center, scale = _standards(learnt)
    targets, weights = _targets(times, events, ends)
    lesson = Lesson(_standardised(rows, center, scale), targets, weights)
    return HazardModel(ends, center, scale, train(lesson, recipe, held))


def _held(marks: Bools, members: int, rows: int) -> Bools:
    if marks.shape not in ((rows,), (members, rows)) or marks.all(axis=-1).any():
        raise InvalidInput(
            "holdout", "must mark rows, for all members or for each, and leave rows to learn from"
        )
    return np.broadcast_to(marks, (members, rows))


def _checked(edges: Floats, times: Floats) -> Floats:
    if edges.ndim != 1 or len(edges) == 0 or not (np.diff(edges, prepend=0.0) > 0).all():
        raise InvalidInput("edges", "must be times above 0 that rise")
    if not (times >= 0).all():
        raise InvalidInput("time", "has a value that is below 0 or missing")
    return edges


def _targets(times: Floats, events: Bools, edges: Floats) -> tuple[Floats, Floats]:
    """For each interval whether the unit failed in it, and how far it was at risk there."""
    starts = np.concatenate([[0.0], edges[:-1]])
    at = times[:, np.newaxis]
    failed = events[:, np.newaxis] & (at > starts) & (at <= edges)
    failed[:, 0] |= events & (times == 0)
    share = np.clip((at - starts) / (edges - starts), 0.0, 1.0)
    return failed.astype(np.float64), np.where(failed, 1.0, share)


def _standards(rows: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of each column over what is finite; 1 where a column does not vary."""
    finite = np.isfinite(rows)
    count = np.maximum(finite.sum(axis=0), 1)
    center = np.where(finite, rows, 0.0).sum(axis=0) / count
    variance = (np.where(finite, rows - center, 0.0) ** 2).sum(axis=0) / count
    return center, np.where(variance > 1e-18, np.sqrt(variance), 1.0)


def _standardised(rows: Floats, center: Floats, scale: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is beyond the clip anyway
        found = np.minimum(np.maximum((rows - center) / scale, -CLIP), CLIP)
    found[np.isnan(found)] = 0.0
    return found


def _crossing(logs: Floats, times: Floats, level: float) -> Floats:
    """Where each falling curve reaches `level`; infinite where it does not."""
    below = logs <= level
    after = below.argmax(axis=1)
    lines = np.arange(len(logs))
    before = np.maximum(after - 1, 0)
    drop = logs[lines, before] - logs[lines, after]
    share = (logs[lines, before] - level) / np.where(drop > 0, drop, 1.0)
    found = times[before] + share * (times[after] - times[before])
    return np.asarray(np.where(below.any(axis=1), found, np.inf))
