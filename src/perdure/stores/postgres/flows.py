"""Flows: walks the dependencies, breadth first and bounded, and says where each job stands."""

from collections.abc import Sequence
from datetime import timedelta
from time import monotonic
from uuid import UUID

import asyncpg

from perdure.domain.errors import DatabaseUnavailable
from perdure.domain.flow import FlowEdge, FlowNode, FlowPage, FlowView, edges_among, summary
from perdure.domain.job import JobState, OnParentFailure
from perdure.domain.views import EdgeState
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.search import LAST, job_cursor
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)
LISTED_NODES = 100
UNFINISHED = "The time budget ended the list here; ask on with the cursor."


class PostgresFlows:
    """Reads what the service `Flows` asks for."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("flows", schema)
        self._bounded = statements("insights", schema)["bounded"]

    async def flow(self, job_id: UUID, *, most: int, budget: timedelta) -> FlowView | None:
        ends = monotonic() + budget.total_seconds()
        try:
            found = await self._walk(job_id, most, ends)
        except asyncpg.QueryCanceledError as error:
            why = f"the flow was not read within {budget.total_seconds():g} s"
            raise DatabaseUnavailable(why, next_step="give the query more time") from error
        return None if len(found.nodes) == 1 and found.nodes[0].enqueued_at is None else found

    async def flows(self, *, limit: int, before: str | None, budget: timedelta) -> FlowPage:
        ends = monotonic() + budget.total_seconds()
        below = job_cursor(before) or LAST
        try:
            heads = [row["id"] for row in await self._fetch(ends, "heads", below, limit + 1)]
        except asyncpg.QueryCanceledError:
            return FlowPage(flows=(), cursor=before, complete=False, note=UNFINISHED)
        flows: dict[UUID, FlowView] = {}
        last = below
        for head in heads[:limit]:
            if not any(head == node.job_id for flow in flows.values() for node in flow.nodes):
                try:
                    flow = await self._walk(head, LISTED_NODES, ends)
                except asyncpg.QueryCanceledError:
                    return FlowPage(
                        flows=tuple(map(summary, flows.values())),
                        cursor=str(last),
                        complete=False,
                        note=UNFINISHED,
                    )
                flows.setdefault(flow.nodes[0].job_id, flow)
            last = head
        return FlowPage(
            flows=tuple(map(summary, flows.values())), cursor=str(last) if len(heads) > limit else None
        )

    async def _walk(self, job_id: UUID, most: int, ends: float) -> FlowView:
        """All that hangs together with a job, step by step along its edges, to `most` jobs."""
        seen: dict[UUID, None] = {job_id: None}
        edges: dict[tuple[UUID, UUID], FlowEdge] = {}
        border: Sequence[UUID] = [job_id]
        truncated = False
        while border and not truncated:
            rows = await self._fetch(ends, "neighbours", list(border), most)
            fresh: dict[UUID, None] = {}
            for row in rows:
                edges[row["parent_id"], row["child_id"]] = _edge_of(row)
                fresh |= {one: None for one in (row["parent_id"], row["child_id"]) if one not in seen}
            room = most - len(seen)
            truncated = len(fresh) > room
            border = list(fresh)[:room]
            seen |= dict.fromkeys(border)
        rows = await self._fetch(ends, "nodes", sorted(seen))
        nodes = tuple(_node_of(row) for row in rows)
        return FlowView(
            job_id=job_id, nodes=nodes, edges=edges_among(nodes, list(edges.values())), truncated=truncated
        )

    async def _fetch(self, ends: float, name: str, *values: object) -> list[asyncpg.Record]:
        left = max(1, int((ends - monotonic()) * 1000))
        found = await self._database.fetch_all((self._bounded, (str(left),)), (self._sql[name], values))
        return found[1]


def _edge_of(row: Row) -> FlowEdge:
    return FlowEdge(
        parent_id=row["parent_id"],
        child_id=row["child_id"],
        edge=EdgeState(row["edge"]),
        on_failure=OnParentFailure(row["on_failure"]),
    )


def _node_of(row: Row) -> FlowNode:
    return FlowNode(
        job_id=row["id"],
        kind=row["kind"] or "",
        queue=row["queue"] or "",
        state=None if row["state"] is None else JobState(row["state"]),
        attempt=row["attempt"] or 0,
        enqueued_at=row["enqueued_at"],
        since=row["since"],
    )
