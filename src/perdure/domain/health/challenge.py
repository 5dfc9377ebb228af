"""Champion and challenger: history split by time, a fit, and whether it is so much better that it may be relied on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perdure.domain.errors import InvalidInput
from perdure.domain.health.arrays import Bools, Floats, Integers, NDArray, np
from perdure.domain.health.calibration import Quality, area, calibration_error, log_loss, platt, quality
from perdure.domain.health.hazard import HazardModel, fit
from perdure.domain.health.network import Recipe

ERROR_MAX = 0.02
LINEAR_FROM, NEURAL_FROM = 20, 200
"""Failures from which on a linear model, and one with hidden units, is tried."""

DRAWS = 200
LINEAR = Recipe(hidden=(), members=3, epochs=60, batch=256, rate=1e-2, decay=1e-2)
NEURAL = Recipe(hidden=(24, 12), members=3, epochs=40, batch=256, decay=1e-2)
BINS = 10


@dataclass(frozen=True, slots=True)
class Lessons:
    """Rows of features, when each was seen (seconds), the time until its failure or until it was seen last, and whose it is."""

    rows: Floats
    at: Floats
    time: Floats
    failed: Bools
    unit: Integers

    def part(self, which: Bools) -> "Lessons":
        return Lessons(
            self.rows[which], self.at[which], self.time[which], self.failed[which], self.unit[which]
        )

    def ended(self, at: float) -> "Lessons":
        """The same as it was known at that moment: what failed later had not failed."""
        left = at - self.at
        return Lessons(
            self.rows, self.at, np.minimum(self.time, left), self.failed & (self.time <= left), self.unit
        )

    def known(self, horizon: float) -> tuple[Bools, Bools]:
        """Of which rows it is known whether they failed within the horizon, and which did."""
        failed = self.failed & (self.time <= horizon)
        return failed | (self.time >= horizon), failed


@dataclass(frozen=True, slots=True)
class Split:
    """The oldest 60 % of the time to learn from, the next 20 % to decide when to stop, the newest 20 % to be judged by; a horizon between them."""

    train: Bools
    valid: Bools
    test: Bools
    train_end: float
    valid_end: float


def split(lessons: Lessons, *, horizon: float) -> Split:
    """Cut by time. Raises InvalidInput when there is nothing to cut."""
    if len(lessons.at) < 3:
        raise InvalidInput("history", f"has only {len(lessons.at)} moments to learn from")
    first, second = np.quantile(lessons.at, (0.6, 0.8))
    return Split(
        train=lessons.at <= first - horizon,
        valid=(lessons.at > first) & (lessons.at <= second - horizon),
        test=lessons.at > second,
        train_end=float(first),
        valid_end=float(second),
    )


def learn(
    lessons: Lessons, parts: Split, *, edges: Sequence[float], horizon: float, failures: int, seed: int = 0
) -> tuple[HazardModel, str]:
    """Fit on the older parts alone; the model, and what it is in words.

    With 200 failures a network is tried beside the linear model, and the one with the smaller log-loss on the middle part is given. It is
    calibrated there when its calibration error is above 0.02.
    """
    train, valid = (
        lessons.part(parts.train).ended(parts.train_end),
        lessons.part(parts.valid).ended(parts.valid_end),
    )
    if not train.failed.any():
        raise InvalidInput("history", "has no failure in its older part, so nothing can be learnt yet")
    recipes = {"linear": LINEAR, **({"network": NEURAL} if failures >= NEURAL_FROM else {})}
    rows = np.concatenate([train.rows, valid.rows])
    time = np.concatenate([train.time, valid.time])
    failed = np.concatenate([train.failed, valid.failed])
    held = np.arange(len(rows)) >= len(train.rows) if len(valid.rows) else None
    found = [
        (name, fit(rows, time, failed, edges=edges, recipe=_seeded(recipe, seed), holdout=held))
        for name, recipe in recipes.items()
    ]
    known, true = valid.known(horizon)
    if not 0 < true[known].sum() < known.sum():
        return found[0][1], f"{found[0][0]}, not calibrated: too little to check it by"
    losses = [log_loss(model.predict(valid.rows[known], horizon), true[known]) for _, model in found]
    name, model = found[int(np.argmin(losses))]
    said = model.predict(valid.rows[known], horizon)
    if calibration_error(said, true[known]) <= ERROR_MAX:
        return model, name
    slope, offset = platt(np.log(said + 1e-12) - np.log1p(1e-12 - said), true[known])
    return model.calibrated(slope, offset), f"{name}, calibrated"


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    from dataclasses import replace

    return replace(recipe, seed=seed)


@dataclass(frozen=True, slots=True)
class Gain:
    """By how much one is better than another: its area under precision and recall, and its log-loss; `low` is what 95 % of the draws exceed."""

    area: float
    area_low: float
    log_loss: float
    log_loss_low: float


def gain(challenger: Floats, other: Floats, true: Bools, unit: Integers, *, seed: int = 0) -> Gain:
    """Compare probabilities of the same rows; workers are drawn with replacement, for rows of one depend on each other."""
    draws = [
        _gain(challenger[rows], other[rows], true[rows])
        for rows in _draws(unit, np.random.default_rng(seed))
        if 0 < true[rows].sum() < len(rows)
    ]
    whole = _gain(challenger, other, true)
    lows = np.quantile(np.array(draws), 0.05, axis=0) if draws else (-np.inf, -np.inf)
    return Gain(whole[0], float(lows[0]), whole[1], float(lows[1]))


def _gain(one: Floats, other: Floats, true: Bools) -> tuple[float, float]:
    return area(one, true) - area(other, true), log_loss(other, true) - log_loss(one, true)


def _draws(unit: Integers, generator: np.random.Generator) -> list[NDArray[np.intp]]:
    rows = [np.flatnonzero(unit == one) for one in np.unique(unit)]
    return [
        np.concatenate([rows[chosen] for chosen in generator.integers(len(rows), size=len(rows))])
        for _ in range(DRAWS)
    ]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a model stood on history that it had not seen, beside others by name; `faults` says why it may not be relied on, if so."""

    quality: Quality | None
    gains: Mapping[str, Gain]
    faults: tuple[str, ...]


def judge(
    said: Floats, others: Mapping[str, Floats], true: Bools, unit: Integers, *, error_max: float = ERROR_MAX
) -> Judgement:
    """Judge probabilities by what came true.

    To be relied on, a model saves log-loss beside the base rate, is calibrated to 0.02 or as well as chance lets one see on so few rows, and is
    better than each of the others by area and log-loss, surely.
    """
    if not 0 < true.sum() < len(true):
        return Judgement(
            None, {}, (f"the newest part of history has {int(true.sum())} failures in {len(true)} moments",)
        )
    found = quality(said, true)
    gains = {name: gain(said, other, true, unit) for name, other in others.items()}
    faults = [] if found.skill > 0 else [f"it says less than the base rate does (skill {found.skill:.3f})"]
    allowed = max(error_max, _error_by_chance(said))
    if found.error > allowed:
        faults.append(f"it is not calibrated (error {found.error:.3f}, at most {allowed:.3f})")
    faults += [
        f"it is not surely better than {name} (area {one.area:+.3f}, at least {one.area_low:+.3f}; log-loss {one.log_loss:+.4f}, "
        f"at least {one.log_loss_low:+.4f})"
        for name, one in gains.items()
        if one.area_low <= 0 or one.log_loss_low <= 0
    ]
    return Judgement(found, gains, tuple(faults))


def _error_by_chance(said: Floats) -> float:
    """The calibration error that nineteen of twenty draws stay below when each of these probabilities is exactly right."""
    generator = np.random.default_rng(0)
    return float(
        np.quantile([calibration_error(said, generator.random(len(said)) < said) for _ in range(DRAWS)], 0.95)
    )


def deciles(rows: Floats) -> Floats:
    """Nine cuts (9, features) between tenths of each feature; what is missing is left out."""
    filled = np.where(np.isfinite(rows), rows, np.nan)
    cuts = [
        np.nanquantile(column, np.arange(1, BINS) / BINS) if np.isfinite(column).any() else np.zeros(BINS - 1)
        for column in filled.T
    ]
    return np.array(cuts).T


def shares(rows: Floats, cuts: Floats) -> Floats:
    """Which share of the rows lies in each tenth (10, features)."""
    found = [
        np.bincount(np.searchsorted(cuts[:, number], column[np.isfinite(column)]), minlength=BINS)
        for number, column in enumerate(rows.T)
    ]
    counts = np.array(found, dtype=np.float64).T
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1.0))


def stability(before: Floats, now: Floats) -> Floats:
    """The population stability index of each feature; above 0.2 it has moved."""
    one, other = before + 1e-3, now + 1e-3
    return np.asarray(((other - one) * np.log(other / one)).sum(axis=0))
