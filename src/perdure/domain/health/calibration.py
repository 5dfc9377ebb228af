"""Whether probabilities can be believed: measures over labelled rows, and Platt's mending."""

from dataclasses import dataclass

from perdure.domain.errors import InvalidInput
from perdure.domain.health.arrays import ArrayLike, Bools, Floats, np, vector

TINY = 1e-9
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good probabilities are, over `rows` of which `positives` came true.

    `area` is the area under precision and recall, `skill` the share of the base rate's log-loss that is saved (below 0: worse
    than always saying the base rate), `lift` how much more often the top hundredth comes true, `error` the expected
    calibration error over ten bins of equal size, `brier` the mean squared error.
    """

    rows: int
    positives: int
    area: float
    skill: float
    lift: float
    error: float
    brier: float


def quality(probabilities: ArrayLike, outcomes: ArrayLike) -> Quality:
    """Measure probabilities against what came true; raises InvalidInput without both outcomes."""
    said = vector(probabilities, field="probabilities")
    true = vector(outcomes, field="outcomes", length=len(said)) > 0
    if not 0 < true.sum() < len(true):
        raise InvalidInput("outcomes", "are all the same; nothing can be measured")
    base = np.full(len(said), true.mean())
    order = np.argsort(-said, kind="stable")
    top = order[: max(len(said) // 100, 1)]
    return Quality(
        rows=len(said),
        positives=int(true.sum()),
        area=area(said, true),
        skill=1 - log_loss(said, true) / log_loss(base, true),
        lift=float(true[top].mean() / true.mean()),
        error=calibration_error(said, true),
        brier=float(np.mean((said - true) ** 2)),
    )


def area(said: Floats, true: Bools) -> float:
    """The area under precision and recall (average precision); equal probabilities count together."""
    order = np.argsort(-said, kind="stable")
    ranked = said[order]
    hits = np.cumsum(true[order])
    last = np.append(ranked[1:] != ranked[:-1], True)
    precision = hits[last] / (np.flatnonzero(last) + 1)
    recall = hits[last] / hits[-1]
    return float(np.diff(recall, prepend=0.0) @ precision)


def log_loss(said: Floats, true: Bools) -> float:
    safe = np.clip(said, TINY, 1 - TINY)
    return float(-np.mean(np.where(true, np.log(safe), np.log1p(-safe))))


def calibration_error(said: Floats, true: Bools) -> float:
    """The mean gap between what was said and what came true, over ten bins of equally many rows."""
    parts = np.array_split(np.argsort(said, kind="stable"), BINS)
    return float(
        sum(len(part) * abs(said[part].mean() - true[part].mean()) for part in parts if len(part)) / len(said)
    )


def platt(logits: ArrayLike, outcomes: ArrayLike, *, steps: int = 100) -> tuple[float, float]:
    """Slope and offset that make `slope * logits + offset` fit the outcomes best (Platt 1999)."""
    at = vector(logits, field="logits")
    true = vector(outcomes, field="outcomes", length=len(at)) > 0
    positives = int(true.sum())
    # Platt's targets keep the fit finite when the classes can be told apart without error.
    target = np.where(true, (positives + 1) / (positives + 2), 1 / (len(at) - positives + 2))
    design = np.column_stack([at, np.ones(len(at))])
    found, loss = np.array([0.0, 0.0]), np.inf
    for _ in range(steps):
        step = _newton(design, target, found)
        # A full step can overshoot where the curve is flat; half of it, or half of that, does not.
        shares = (found - step * 0.5**halving for halving in range(30))
        better = next((one for one in shares if _loss(design, target, one) < loss), None)
        if better is None or np.abs(better - found).max() < 1e-10:
            break
        found, loss = better, _loss(design, target, better)
    return float(found[0]), float(found[1])


def _newton(design: Floats, target: Floats, at: Floats) -> Floats:
    said = 0.5 * (1 + np.tanh(0.5 * (design @ at)))
    curve = (design * (said * (1 - said))[:, np.newaxis]).T @ design + 1e-9 * np.eye(2)
    return np.asarray(np.linalg.solve(curve, design.T @ (said - target)), dtype=np.float64)


def _loss(design: Floats, target: Floats, at: Floats) -> float:
    logits = design @ at
    return float(np.mean(np.logaddexp(0.0, logits) - target * logits))
