"""The figures on ASD: one detector for each server, fitted on its unlabelled training rows."""

from pathlib import Path

import archives
import measures
import numpy as np
from report import Figure

from perdure.domain.health import alarm, residual

ROWS_PER_DAY = 288
SMOOTH = 5
BUDGETS = (0.25, 1.0)


def figures(folder: Path) -> list[Figure]:
    servers = archives.asd(folder)
    labels = [server.labels for server in servers]
    scores = [detector(server) for server in servers]
    plain = [largest_z(server) for server in servers]
    found = [Figure("ASD VUS-PR", volume(scores, labels), "", 0.55, 0.65, volume(plain, labels))]
    ratios = [over_level(train, test) for train, test in scores]
    plain_ratios = [smoothed(np.concatenate(parts))[len(parts[0]) :] for parts in plain]
    for per_day, least, aim in zip(BUDGETS, (60, 85), (80, 95), strict=True):
        caught, baseline = (
            measures.caught_at(one, labels, per_day=per_day, rows_per_day=ROWS_PER_DAY)
            for one in (ratios, plain_ratios)
        )
        name = f"ASD events at {per_day:g} false alarms a day"
        found.append(Figure(name, percent(caught), "%", least, aim, percent(baseline)))
    own = measures.counted(ratios, labels, 1.0, ROWS_PER_DAY)
    found.append(Figure("ASD events at the level set in training", percent(own), "%"))
    found.append(
        Figure("ASD false alarms at the level set in training", own.false_alarms_per_day, "per server-day")
    )
    return found


def detector(server: archives.Server) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the training and the test rows."""
    both = residual.fit(server.train).score(np.concatenate([server.train, server.test]))
    return both[: len(server.train)], both[len(server.train) :]


def largest_z(server: archives.Server) -> tuple[np.ndarray, np.ndarray]:
    """The largest |z| of any metric against the training rows: the specification's way."""
    spread = server.train.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    z = np.abs(np.concatenate([server.train, server.test]) - server.train.mean(axis=0)) / scale
    return z[: len(server.train)].max(axis=1), z[len(server.train) :].max(axis=1)


def over_level(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Test scores over the warning level, which training and the last day set."""
    levels = alarm.budget(train, rows_per_day=ROWS_PER_DAY)
    return test / levels.warning / alarm.raised(test, levels.usual, before=train[-ROWS_PER_DAY:])


def volume(scores: list[tuple[np.ndarray, np.ndarray]], labels: list[np.ndarray]) -> float:
    smooth = [smoothed(np.concatenate(parts))[len(parts[0]) :] for parts in scores]
    return float(np.mean([measures.vus_pr(label, one) for label, one in zip(labels, smooth, strict=True)]))


def smoothed(scores: np.ndarray) -> np.ndarray:
    """The mean of the last 5 rows."""
    total = np.concatenate([[0.0], np.cumsum(scores)])
    end = np.arange(1, len(scores) + 1)
    start = np.maximum(end - SMOOTH, 0)
    return (total[end] - total[start]) / (end - start)


def percent(caught: measures.Caught) -> float:
    return 100 * caught.caught / caught.events
