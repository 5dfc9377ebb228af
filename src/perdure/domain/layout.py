"""Layered drawing of a directed graph without circles: layers, few crossings, places (Sugiyama, Tagawa, Toda 1981)."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

N = TypeVar("N", bound=Hashable)

SWEEPS = 8
WIDTH, HEIGHT = 186, 44
GAP_ALONG, GAP_ACROSS = 52, 20


@dataclass(frozen=True, slots=True)
class Placed(Generic[N]):
    """A node with the upper left corner of its box."""

    node: N
    x: float
    y: float
    layer: int


@dataclass(frozen=True, slots=True)
class Routed(Generic[N]):
    """An edge with the points that it passes, from the right side of the parent to the left side of the child."""

    parent: N
    child: N
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Drawing(Generic[N]):
    """Where everything stands, from the left to the right; all coordinates are within `width` and `height`."""

    nodes: tuple[Placed[N], ...]
    edges: tuple[Routed[N], ...]
    width: float
    height: float


_Spot = tuple[str, object]
"""A node ("node", it) or the bend of a long edge in a layer that it passes ("bend", (parent, child, layer))."""


def draw(nodes: Sequence[N], edges: Iterable[tuple[N, N]]) -> Drawing[N]:
    """Place the nodes so that every edge leads to the right. Edges of a circle that remain after layering are left out."""
    known = set(nodes)
    pairs = [
        pair for pair in dict.fromkeys(edges) if pair[0] in known and pair[1] in known and pair[0] != pair[1]
    ]
    layer_of = layers(nodes, pairs)
    forward = [(parent, child) for parent, child in pairs if layer_of[parent] < layer_of[child]]
    rows, links, routes = _with_bends(nodes, forward, layer_of)
    _uncross(rows, links)
    y_of = _heights(rows, links)
    top = min(y_of.values(), default=0.0)
    placed = tuple(
        Placed(node, layer_of[node] * (WIDTH + GAP_ALONG), y_of["node", node] - top, layer_of[node])
        for node in nodes
    )
    routed = tuple(_route(pair, spots, y_of, top, layer_of) for pair, spots in routes.items())
    width = max((place.x + WIDTH for place in placed), default=0.0)
    height = max((y - top + HEIGHT for y in y_of.values()), default=0.0)
    return Drawing(placed, routed, width, height)


def layers(nodes: Sequence[N], edges: Sequence[tuple[N, N]]) -> dict[N, int]:
    """The length of the longest path to each node; nodes of a circle stay in the layer where the circle was met."""
    children: dict[N, list[N]] = defaultdict(list)
    waiting = dict.fromkeys(nodes, 0)
    for parent, child in edges:
        children[parent].append(child)
        waiting[child] += 1
    layer = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if waiting[node] == 0]
    for node in ready:  # grows while it is walked
        for child in children[node]:
            layer[child] = max(layer[child], layer[node] + 1)
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    return layer


def _with_bends(
    nodes: Sequence[N], edges: Sequence[tuple[N, N]], layer_of: Mapping[N, int]
) -> tuple[list[list[_Spot]], list[tuple[_Spot, _Spot]], dict[tuple[N, N], list[_Spot]]]:
    """Rows of spots for each layer, the short links between neighbouring layers, and the spots of each edge."""
    rows: list[list[_Spot]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for node in nodes:
        rows[layer_of[node]].append(("node", node))
    links: list[tuple[_Spot, _Spot]] = []
    routes: dict[tuple[N, N], list[_Spot]] = {}
    for parent, child in edges:
        spots: list[_Spot] = [("node", parent)]
        for layer in range(layer_of[parent] + 1, layer_of[child]):
            bend = ("bend", (parent, child, layer))
            rows[layer].append(bend)
            spots.append(bend)
        spots.append(("node", child))
        links += pairwise(spots)
        routes[parent, child] = spots
    return rows, links, routes


def _neighbours(
    links: Sequence[tuple[_Spot, _Spot]],
) -> tuple[dict[_Spot, list[_Spot]], dict[_Spot, list[_Spot]]]:
    before: dict[_Spot, list[_Spot]] = defaultdict(list)
    after: dict[_Spot, list[_Spot]] = defaultdict(list)
    for left, right in links:
        after[left].append(right)
        before[right].append(left)
    return before, after


def _uncross(rows: list[list[_Spot]], links: Sequence[tuple[_Spot, _Spot]]) -> None:
    """Order each row by the mean place of its neighbours, forth and back, and keep the best order found."""
    before, after = _neighbours(links)
    best, fewest = [list(row) for row in rows], crossings(rows, links)
    for sweep in range(SWEEPS):
        if fewest == 0:
            break
        forth = sweep % 2 == 0
        for number in range(1, len(rows)) if forth else range(len(rows) - 2, -1, -1):
            fixed = {spot: place for place, spot in enumerate(rows[number - 1 if forth else number + 1])}
            beside = before if forth else after
            own = {spot: place for place, spot in enumerate(rows[number])}
            rows[number].sort(key=lambda spot: _mean([fixed[other] for other in beside[spot]], own[spot]))
        if (found := crossings(rows, links)) < fewest:
            best, fewest = [list(row) for row in rows], found
    rows[:] = best


def _mean(places: Sequence[float], otherwise: float) -> float:
    return sum(places) / len(places) if places else otherwise


def crossings(rows: Sequence[Sequence[_Spot]], links: Sequence[tuple[_Spot, _Spot]]) -> int:
    """How many pairs of links cross."""
    place = {spot: (number, at) for number, row in enumerate(rows) for at, spot in enumerate(row)}
    by_layer: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for left, right in links:
        by_layer[place[left][0]].append((place[left][1], place[right][1]))
    return sum(_inversions([right for _, right in sorted(pairs)]) for pairs in by_layer.values())


def _inversions(numbers: Sequence[int]) -> int:
    """How many pairs stand in the wrong order, with a Fenwick tree."""
    size = max(numbers, default=0) + 1
    tree = [0] * (size + 1)
    found = 0
    for seen, number in enumerate(numbers):
        at, not_above = number + 1, 0
        while at:
            not_above += tree[at]
            at -= at & -at
        found += seen - not_above
        at = number + 1
        while at <= size:
            tree[at] += 1
            at += at & -at
    return found


def _heights(rows: Sequence[Sequence[_Spot]], links: Sequence[tuple[_Spot, _Spot]]) -> dict[_Spot, float]:
    """A height for each spot: near its neighbours, in the order of its row, and never closer than the gap."""
    before, after = _neighbours(links)
    step = HEIGHT + GAP_ACROSS
    y_of = {spot: float(at * step) for row in rows for at, spot in enumerate(row)}
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        beside = before if forth else after
        for row in rows if forth else list(reversed(rows)):
            wished = [_mean([y_of[other] for other in beside[spot]], y_of[spot]) for spot in row]
            y_of |= dict(zip(row, _apart(wished, step), strict=True))
    return y_of


def _apart(wished: Sequence[float], step: float) -> list[float]:
    """The heights nearest to the wished ones that keep their distance: blocks that collide move to their common mean."""
    blocks: list[
        tuple[float, int]
    ] = []  # of each block the sum of its wishes (less their offsets) and its length
    for wish in wished:
        total, length = wish, 1
        while blocks and blocks[-1][0] / blocks[-1][1] + blocks[-1][1] * step > total / length:
            other, others = blocks.pop()
            total, length = other + total - others * step * length, others + length
        blocks.append((total, length))
    return [total / length + at * step for total, length in blocks for at in range(length)]


def _route(
    pair: tuple[N, N],
    spots: Sequence[_Spot],
    y_of: Mapping[_Spot, float],
    top: float,
    layer_of: Mapping[N, int],
) -> Routed[N]:
    parent, child = pair
    points: list[tuple[float, float]] = []
    for number, spot in enumerate(spots):
        x = (layer_of[parent] + number) * (WIDTH + GAP_ALONG)
        y = y_of[spot] - top + HEIGHT / 2
        if number:
            points.append((x, y))
        if number < len(spots) - 1:
            points.append((x + WIDTH, y))
    return Routed(parent, child, tuple(points))
