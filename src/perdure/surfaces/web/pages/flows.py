"""Flows: jobs that depend on each other, as a list and as a picture that follows what runs."""

from uuid import UUID

from perdure.domain.flow import FlowNode, FlowView, in_a_sentence
from perdure.domain.layout import HEIGHT, WIDTH, Drawing, Routed, draw
from perdure.surfaces.web.charts import parts
from perdure.surfaces.web.pages.frame import Content, View, Visit

LIMIT = 20


async def flows(visit: Visit) -> Content:
    """The view of the list."""
    cursor = visit.query.get("cursor") or None
    found = await visit.stores.flows.flows(limit=LIMIT, cursor=cursor)
    return "flows.html", {
        "found": found,
        "cursor": cursor,
        "bars": {
            flow.job_id: parts([(str(state), count) for state, count in sorted(flow.counts.items())])
            for flow in found.flows
        },
    }


def flow_view(job_id: UUID) -> View:
    """The view of one flow's page."""

    async def flow(visit: Visit) -> Content:
        found = await visit.stores.flows.flow(job_id)
        drawing = draw(
            [node.job_id for node in found.nodes], [(edge.parent_id, edge.child_id) for edge in found.edges]
        )
        by_id = {node.job_id: node for node in found.nodes}
        return "flow.html", {
            "flow": found,
            "sentence": in_a_sentence(found),
            "drawing": drawing,
            "nodes": by_id,
            "paths": {(edge.parent, edge.child): path_of(edge) for edge in drawing.edges},
            "waiting": {(edge.parent_id, edge.child_id): str(edge.edge) for edge in found.edges},
            "listed": _in_layers(found, drawing, by_id),
            "box_width": WIDTH,
            "box_height": HEIGHT,
            "asked": job_id,
        }

    return flow


def path_of(edge: Routed[UUID]) -> str:
    """The line of an edge: straight through the boxes' gaps of layers that it passes, bent in between."""
    (x, y), *others = edge.points
    path = f"M{x:.0f} {y:.1f}"
    for number, (next_x, next_y) in enumerate(others):
        if number % 2:
            path += f" L{next_x:.0f} {next_y:.1f}"
        else:
            last = number == len(others) - 1
            stop = next_x - 5 if last else next_x
            bend = (x + stop) / 2
            path += f" C{bend:.0f} {y:.1f} {bend:.0f} {next_y:.1f} {stop:.0f} {next_y:.1f}"
        x, y = next_x, next_y
    return path


def _in_layers(
    flow: FlowView, drawing: Drawing[UUID], by_id: dict[UUID, FlowNode]
) -> list[tuple[FlowNode, int, list[UUID]]]:
    """Each job with its layer and its parents, in the order of the layers: the picture for those who do not see it."""
    parents: dict[UUID, list[UUID]] = {}
    for edge in flow.edges:
        parents.setdefault(edge.child_id, []).append(edge.parent_id)
    places = sorted(drawing.nodes, key=lambda place: (place.layer, place.y))
    return [(by_id[place.node], place.layer, parents.get(place.node, [])) for place in places]
