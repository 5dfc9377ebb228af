"""The measures that the figures are: for anomalies in series, events under a budget of false alarms."""

from dataclasses import dataclass

import numpy as np

BUFFER = 100
THRESHOLDS = 250
MERGE = 9
NORMAL_SHARE_MAX = 0.02


def segments(marks: np.ndarray) -> list[tuple[int, int]]:
    """First and last row of each run of marks."""
    edges = np.diff(np.concatenate([[0], marks.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1, strict=True))


def vus_pr(labels: np.ndarray, scores: np.ndarray) -> float:
    """Volume under the precision-recall surface (Paparrizos et al. 2022), buffers of 0 to 100 rows."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    levels = ranked[np.linspace(0, len(scores) - 1, THRESHOLDS).astype(int)]
    predicted = np.searchsorted(-ranked, -levels, side="right")  # rows at or above each level
    events = segments(labels)
    positives = labels.sum()
    areas = []
    for buffer in range(BUFFER + 1):
        soft = _softened(labels, events, buffer)
        hits = np.cumsum(soft[order])[predicted - 1]
        outside = np.cumsum((soft * ~labels)[order])[predicted - 1]
        peaks = np.array(
            [scores[first : last + 1].max() for first, last in _widened(events, buffer, len(labels))]
        )
        found = (peaks[:, None] >= levels).mean(axis=0)
        recall = np.minimum(hits / (positives + outside / 2), 1.0) * found
        areas.append(np.diff(recall, prepend=0.0) @ (hits / predicted))
    return float(np.mean(areas))


def _softened(labels: np.ndarray, events: list[tuple[int, int]], buffer: int) -> np.ndarray:
    """Labels with sloping sides of half a buffer."""
    soft = labels.astype(float)
    for first, last in events:
        after = np.arange(last + 1, min(last + buffer // 2 + 1, len(labels)))
        soft[after] += np.sqrt(1 - (after - last) / max(buffer, 1))
        ahead = np.arange(max(first - buffer // 2, 0), first)
        soft[ahead] += np.sqrt(1 - (first - ahead) / max(buffer, 1))
    return np.minimum(soft, 1.0)


def _widened(events: list[tuple[int, int]], buffer: int, rows: int) -> list[tuple[int, int]]:
    """Events with half a buffer at each side, merged where they touch."""
    half = buffer // 2
    found: list[tuple[int, int]] = []
    for first, last in events:
        if found and first - half <= found[-1][1]:
            found[-1] = (found[-1][0], last + half)
        else:
            found.append((max(first - half, 0), last + half))
    return [(first, min(last, rows - 1)) for first, last in found]


@dataclass(frozen=True)
class Caught:
    """Events caught of all, at the multiplier that the budget allows."""

    caught: int
    events: int
    false_alarms_per_day: float
    normal_share: float
    multiplier: float


def caught_at(
    ratios: list[np.ndarray], labels: list[np.ndarray], *, per_day: float, rows_per_day: int
) -> Caught:
    """Most events caught with one multiplier for all servers within the budget.

    `ratios` are scores divided by their alarm level. Alarms within 9 rows are one episode; an episode that touches no
    event is false; at most 2 % of normal rows may lie under alarms.
    """
    pooled = np.concatenate(ratios)
    best = Caught(0, 0, 0.0, 0.0, np.inf)
    for multiplier in np.unique(np.quantile(pooled, np.linspace(0.80, 1.0, 600))):
        found = counted(ratios, labels, float(multiplier), rows_per_day)
        within = found.false_alarms_per_day <= per_day and found.normal_share <= NORMAL_SHARE_MAX
        if within and found.caught > best.caught:
            best = found
    return best


def counted(
    ratios: list[np.ndarray], labels: list[np.ndarray], multiplier: float, rows_per_day: int
) -> Caught:
    """Events caught and false alarms when every ratio above `multiplier` is an alarm."""
    days = sum(len(one) for one in labels) / rows_per_day
    caught = events = false = under = normal = 0
    for ratio, label in zip(ratios, labels, strict=True):
        alarms = ratio > multiplier
        known = segments(label)
        events += len(known)
        caught += sum(alarms[first : last + 1].any() for first, last in known)
        under += (alarms & ~label).sum()
        normal += (~label).sum()
        false += sum(not label[first : last + 1].any() for first, last in _merged(alarms))
    return Caught(int(caught), events, false / days, under / normal, multiplier)


def _merged(alarms: np.ndarray) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in segments(alarms):
        if found and first - found[-1][1] <= MERGE:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found
