"""The drawing of a graph: every edge leads on, boxes keep their distance, and crossings do not grow."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.layout import HEIGHT, WIDTH, crossings, draw, layers


@st.composite
def graphs(draw_: st.DrawFn) -> tuple[list[int], list[tuple[int, int]]]:
    """A graph without circles: edges lead from smaller to larger numbers."""
    count = draw_(st.integers(1, 25))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).map(
        lambda pair: (min(pair), max(pair))
    )
    return list(range(count)), [pair for pair in draw_(st.lists(pairs, max_size=50)) if pair[0] != pair[1]]


@given(graphs())
def test_every_edge_leads_to_the_right_and_is_drawn_once(
    graph: tuple[list[int], list[tuple[int, int]]],
) -> None:
    nodes, edges = graph
    drawing = draw(nodes, edges)
    assert {(edge.parent, edge.child) for edge in drawing.edges} == set(edges)
    assert len(drawing.edges) == len(set(edges))
    for edge in drawing.edges:
        xs = [x for x, _ in edge.points]
        assert xs == sorted(xs)
        assert xs[0] < xs[-1]


@given(graphs())
def test_boxes_keep_their_distance_within_the_picture(graph: tuple[list[int], list[tuple[int, int]]]) -> None:
    drawing = draw(*graph)
    assert {place.node for place in drawing.nodes} == set(graph[0])
    by_layer: dict[int, list[float]] = {}
    for place in drawing.nodes:
        assert -1e-6 <= place.x <= drawing.width - WIDTH + 1e-6
        assert -1e-6 <= place.y <= drawing.height - HEIGHT + 1e-6
        by_layer.setdefault(place.layer, []).append(place.y)
    for heights in by_layer.values():
        ordered = sorted(heights)
        assert all(below - above >= HEIGHT for above, below in pairwise(ordered))


@given(graphs())
def test_a_layer_is_the_longest_path(graph: tuple[list[int], list[tuple[int, int]]]) -> None:
    nodes, edges = graph
    layer = layers(nodes, edges)
    for node in nodes:
        parents = [layer[parent] for parent, child in edges if child == node]
        assert layer[node] == (max(parents) + 1 if parents else 0)


def test_two_lines_that_need_not_cross_do_not() -> None:
    drawing = draw(["a", "b", "x", "y"], [("a", "y"), ("b", "x")])
    height = {place.node: place.y for place in drawing.nodes}
    assert (height["a"] < height["b"]) == (height["y"] < height["x"])


def test_crossings_are_counted() -> None:
    rows = [[("node", "a"), ("node", "b")], [("node", "x"), ("node", "y")]]
    links = [(("node", "a"), ("node", "y")), (("node", "b"), ("node", "x"))]
    assert crossings(rows, links) == 1
    assert crossings(rows, [(("node", "a"), ("node", "x")), (("node", "b"), ("node", "y"))]) == 0


def test_a_circle_is_drawn_without_the_edge_that_closes_it() -> None:
    drawing = draw(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "b")])
    assert {place.node for place in drawing.nodes} == {"a", "b", "c"}


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw([], []).nodes == ()
