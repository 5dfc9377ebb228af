"""The figures on C-MAPSS: the hazard network and the trend line, each asked once about the test engines."""

from pathlib import Path

import archives
import cmapss
import numpy as np
from report import Figure

from perdure.domain.health.histories import moving
from perdure.domain.health.network import Recipe
from perdure.domain.health.trend import FAILED_AT

RECIPE = Recipe(hidden=(48, 24), members=6, epochs=25, decay=0.1)
BOUNDS = {"FD001": (13.5, 11.5), "FD002": (12.5, 11.0)}


def figures(folder: Path) -> list[Figure]:
    return [one for name in BOUNDS for one in of_set(folder, name)]


def of_set(folder: Path, name: str) -> list[Figure]:
    engines = archives.cmapss(folder, name)
    known, model = cmapss.learn(engines.train, RECIPE)
    last = cmapss.last_rows(engines.test)
    rows = cmapss.features(engines.test, known)[last]
    truth = np.minimum(engines.remaining, cmapss.CAP)
    line = cmapss.rmse(straight_line(engines, known)[last], truth)
    found = model.mean(rows)
    life = model.lifetime(rows)
    inside = np.mean((life.low <= truth) & (truth <= np.minimum(life.high, cmapss.CAP)))
    least, aim = BOUNDS[name]
    return [
        Figure(
            f"C-MAPSS {name} RMSE, cap 125", cmapss.rmse(found, truth), "cycles", least, aim, line, lower=True
        ),
        Figure(f"C-MAPSS {name} RMSE, uncapped", cmapss.rmse(found, engines.remaining), "cycles", lower=True),
        Figure(f"C-MAPSS {name} share in the 80 % interval", float(inside)),
    ]


def straight_line(engines: archives.Engines, known: cmapss.Conditions) -> np.ndarray:
    """Cycles until a health score of 0-1 falls to 0.3 along its last 30 cycles: the baseline.

    The score is a ridge regression of the capped remaining share on the sensors, smoothed, so that the line at least gets the
    best straight health score that the training engines give.
    """
    train = sensors(engines.train, known)
    share = np.minimum(cmapss.remaining(engines.train), cmapss.CAP) / cmapss.CAP
    weights = np.linalg.solve(train.T @ train + 10 * np.eye(train.shape[1]), train.T @ share)
    score = sensors(engines.test, known) @ weights
    found = np.empty(len(score))
    for unit in np.unique(engines.test[:, 0]):
        own = np.flatnonzero(engines.test[:, 0] == unit)
        level = moving(score[own][:, np.newaxis], 10.0)[:, 0]
        part = level[-30:]
        slope = np.polyfit(np.arange(len(part)), part, 1)[0] if len(part) > 1 else 0.0
        # What reaches 0.3 at 0.3 of the cap still has that much life: the line is given the benefit of that.
        found[own] = min(max((part[-1] - FAILED_AT) / -slope, 0.0), cmapss.CAP) if slope < 0 else cmapss.CAP
    return found


def sensors(rows: np.ndarray, known: cmapss.Conditions) -> np.ndarray:
    values = known.standardised(rows)
    values = values[:, np.isfinite(known.spreads).all(axis=0)]
    return np.column_stack([values, np.ones(len(values))])
