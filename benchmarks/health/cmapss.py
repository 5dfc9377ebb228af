"""C-MAPSS: remaining cycles of turbofan engines, official split.

Everything is fitted on training engines; a sixth of them decides when to stop. The last cycle of each test engine is
predicted once, at the end.
"""

from dataclasses import dataclass

import numpy as np

from perdure.domain.health.hazard import HazardModel, fit
from perdure.domain.health.histories import histories
from perdure.domain.health.network import Recipe

CAP = 125.0
EDGES = np.arange(5.0, CAP + 1, 5.0)
SENSORS = slice(5, 26)


@dataclass(frozen=True)
class Conditions:
    """Means and spreads of the sensors under each operating condition, from training rows."""

    centers: np.ndarray
    means: np.ndarray
    spreads: np.ndarray

    def of(self, rows: np.ndarray) -> np.ndarray:
        scaled = rows[:, 2:5] / (42.0, 0.84, 100.0)
        return ((scaled[:, None, :] - self.centers) ** 2).sum(axis=2).argmin(axis=1)

    def standardised(self, rows: np.ndarray) -> np.ndarray:
        condition = self.of(rows)
        return (rows[:, SENSORS] - self.means[condition]) / self.spreads[condition]


def conditions(train: np.ndarray) -> Conditions:
    """The operating conditions are the distinct settings, rounded; six in FD002, one in FD001."""
    scaled = np.round(train[:, 2:5] / (42.0, 0.84, 100.0), 1)
    centers = np.unique(scaled, axis=0)
    centers = np.unique(np.round(centers, 1), axis=0)
    found = Conditions(centers, np.zeros((len(centers), 21)), np.ones((len(centers), 21)))
    which = found.of(train)
    for number in range(len(centers)):
        rows = train[which == number][:, SENSORS]
        found.means[number] = rows.mean(axis=0)
        spread = rows.std(axis=0)
        found.spreads[number] = np.where(spread > 1e-6 * (1 + np.abs(found.means[number])), spread, np.inf)
    return found


def features(rows: np.ndarray, known: Conditions) -> np.ndarray:
    """Features of all rows, engine by engine."""
    values = known.standardised(rows)
    values = values[:, np.isfinite(known.spreads).all(axis=0)]
    return np.concatenate([histories(values[rows[:, 0] == unit]) for unit in np.unique(rows[:, 0])])


def remaining(rows: np.ndarray) -> np.ndarray:
    last = {unit: rows[rows[:, 0] == unit, 1].max() for unit in np.unique(rows[:, 0])}
    return np.array([last[unit] - cycle for unit, cycle in rows[:, :2]])


def held_out(train: np.ndarray, members: int, seed: int = 0) -> np.ndarray:
    """For each member of the ensemble another sixth of the training engines."""
    units = np.unique(train[:, 0])
    sixths = np.array_split(np.random.default_rng(seed).permutation(units), 6)
    return np.stack([np.isin(train[:, 0], sixths[number % 6]) for number in range(members)])


def learn(train: np.ndarray, recipe: Recipe) -> tuple[Conditions, HazardModel]:
    known = conditions(train)
    time = remaining(train)
    held = held_out(train, recipe.members)
    return known, fit(
        features(train, known), time, np.ones(len(time)), edges=EDGES, recipe=recipe, holdout=held
    )


def rmse(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - truth) ** 2)))


def last_rows(rows: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.append(rows[1:, 0] != rows[:-1, 0], True))
