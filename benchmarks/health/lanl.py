"""LANL: which nodes of 14 clusters fail within 7 days, asked weekly, from nothing but their failure log.

Learnt to March 2004, stopped and calibrated on April to June 2004, and asked once about 2005. Features look back only,
and none of them is a date or an age.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from archives import NodeFailure

DAY = timedelta(days=1)
ORIGIN = datetime(1996, 1, 1)  # noqa: DTZ001  (the log has local times)
TRAIN_END = (datetime(2004, 4, 1) - ORIGIN) / DAY  # noqa: DTZ001
VALID_END = (datetime(2004, 7, 1) - ORIGIN) / DAY  # noqa: DTZ001
TEST_START = (datetime(2005, 1, 1) - ORIGIN) / DAY  # noqa: DTZ001
NODES_MIN = 40
WARM_UP = 28.0
HORIZON = 7.0
WINDOWS = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 180.0, 365.0)
CAUSES = ("Hardware", "Software", "Undetermined", "Network")


@dataclass(frozen=True)
class Cluster:
    """The failures of one cluster in order of time; days since the origin."""

    system: int
    nodes: int
    at: np.ndarray
    node: np.ndarray
    cause: np.ndarray
    down: np.ndarray


@dataclass(frozen=True)
class Questions:
    """One row for each node and week."""

    features: np.ndarray
    at: np.ndarray
    time: np.ndarray
    unit: np.ndarray

    def part(self, rows: np.ndarray) -> "Questions":
        return Questions(self.features[rows], self.at[rows], self.time[rows], self.unit[rows])


def clusters(log: list[NodeFailure]) -> list[Cluster]:
    """The clusters of at least 40 nodes that were still in use in 2005."""
    found = []
    for system in sorted({one.system for one in log}):
        own = sorted((one for one in log if one.system == system), key=lambda one: one.at)
        at = np.array([(one.at - ORIGIN) / DAY for one in own])
        nodes = max(one.nodes for one in own)
        if nodes >= NODES_MIN and at[-1] >= TEST_START:
            node = np.array([min(one.node, nodes - 1) for one in own])
            cause = np.array([one.cause for one in own])
            down = np.array([one.down_minutes for one in own])
            found.append(Cluster(system, nodes, at, node, cause, down))
    return found


def counts(cluster: Cluster, chosen: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Failures of each node before each moment (moments, nodes), of those chosen."""
    found = np.zeros((len(moments), cluster.nodes))
    week = np.searchsorted(moments, cluster.at[chosen], side="right")  # the first moment after the failure
    inside = week < len(moments)
    np.add.at(found, (week[inside], cluster.node[chosen][inside]), 1)
    return np.cumsum(found, axis=0)


def before(cluster: Cluster, chosen: np.ndarray, moments: np.ndarray, window: float) -> np.ndarray:
    """Failures of each node in the `window` days before each moment."""
    return counts(cluster, chosen, moments) - counts(cluster, chosen, moments - window)


def decayed(cluster: Cluster, moments: np.ndarray, memory: float) -> np.ndarray:
    """Failures of each node, each weighing exp(-age / memory)."""
    found = np.zeros((len(moments), cluster.nodes))
    step = np.searchsorted(moments, cluster.at, side="right")
    inside = step < len(moments)
    weight = np.exp((cluster.at[inside] - moments[step[inside]]) / memory)
    np.add.at(found, (step[inside], cluster.node[inside]), weight)
    keep = np.exp(-np.diff(moments, prepend=moments[0]) / memory)
    for number in range(1, len(moments)):
        found[number] += keep[number] * found[number - 1]
    return found


def latest(cluster: Cluster, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Days since each node's last failure and the one before it (or since the start), and the last one's down time."""
    last = np.full(cluster.nodes, cluster.at[0] - 365.0)
    earlier = last.copy()
    down = np.zeros(cluster.nodes)
    since = np.empty((len(moments), cluster.nodes))
    since_earlier, downs = np.empty_like(since), np.empty_like(since)
    next_one = 0
    for number, moment in enumerate(moments):
        while next_one < len(cluster.at) and cluster.at[next_one] < moment:
            node = cluster.node[next_one]
            earlier[node], last[node], down[node] = last[node], cluster.at[next_one], cluster.down[next_one]
            next_one += 1
        since[number], since_earlier[number] = moment - last, moment - earlier
        downs[number] = np.minimum(
            down, 24 * 60 * since[number]
        )  # how long a repair will take is not yet known
    return since, since_earlier, downs


def until_next(cluster: Cluster, moments: np.ndarray) -> np.ndarray:
    """Days to each node's next failure; infinite when none is logged."""
    following = np.full(cluster.nodes, np.inf)
    found = np.empty((len(moments), cluster.nodes))
    next_one = len(cluster.at) - 1
    for number in range(len(moments) - 1, -1, -1):
        while next_one >= 0 and cluster.at[next_one] >= moments[number]:
            following[cluster.node[next_one]] = cluster.at[next_one]
            next_one -= 1
        found[number] = following - moments[number]
    return found


def neighbours(count: np.ndarray, reach: int) -> np.ndarray:
    """What the nodes numbered within `reach` have, without the node's own."""
    total = np.cumsum(np.pad(count, ((0, 0), (reach + 1, reach))), axis=1)
    return total[:, 2 * reach + 1 :] - total[:, : -2 * reach - 1] - count


def asked(cluster: Cluster, end: float) -> Questions:
    """The weekly questions about one cluster, from four weeks after its first failure."""
    first = max(cluster.at[0] + WARM_UP, TEST_START - 7 * np.ceil((TEST_START - cluster.at[0] - WARM_UP) / 7))
    moments = np.arange(first, end - HORIZON, 7.0)
    every = np.ones(len(cluster.at), dtype=bool)
    own = {window: before(cluster, every, moments, window) for window in WINDOWS}
    columns = [np.log1p(own[window]) for window in WINDOWS]
    columns += [np.log1p(decayed(cluster, moments, memory)) for memory in (5.0, 20.0, 60.0, 200.0)]
    for cause in CAUSES:
        columns += [
            np.log1p(before(cluster, cluster.cause == cause, moments, window)) for window in (30.0, 180.0)
        ]
    columns += [np.log1p(neighbours(own[window], reach)) for window in (7.0, 30.0) for reach in (1, 4)]
    seen = np.minimum(moments - cluster.at[0], 365.0)[:, None]
    rate = (own[365.0] + 0.5) / (seen + 30.0)
    together = (own[365.0].sum(axis=1, keepdims=True) + 1.0) / (seen + 30.0) / cluster.nodes
    recent = [
        np.log(before(cluster, every, moments, w).sum(axis=1, keepdims=True) / cluster.nodes / w + 1e-4)
        for w in (3.0, 7.0, 30.0, 90.0)
    ]
    columns += [np.log(rate), np.log(together), *recent]
    since, since_earlier, downs = latest(cluster, moments)
    columns += [
        np.log(np.minimum(since, 365.0) + 0.1),
        np.log(np.minimum(since_earlier, 365.0) + 0.1),
        np.log1p(downs),
    ]
    columns += [(own[365.0] > 0).astype(float)]
    shape = (len(moments), cluster.nodes)
    features = np.stack([np.broadcast_to(column, shape).ravel() for column in columns], axis=1)
    unit = np.broadcast_to(cluster.system * 10_000 + np.arange(cluster.nodes), shape).ravel()
    return Questions(
        features, np.broadcast_to(moments[:, None], shape).ravel(), until_next(cluster, moments).ravel(), unit
    )
