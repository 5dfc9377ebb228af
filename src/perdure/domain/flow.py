"""A flow: jobs that depend on each other, as a graph, and how far it has come."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from perdure.domain.job import TERMINAL, JobState, OnParentFailure
from perdure.domain.views import EdgeState

NODES_MAX = 300
"""What one picture shows; larger flows are cut off and say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowNode:
    """One job of a flow; `state` is null when it has been pruned."""

    job_id: UUID
    kind: str
    queue: str
    state: JobState | None
    attempt: int
    enqueued_at: datetime | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEdge:
    """The child waits for the parent, or did."""

    parent_id: UUID
    child_id: UUID
    edge: EdgeState
    on_failure: OnParentFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowView:
    """All jobs that hang together with one job, oldest first; with `truncated` there are more than are shown."""

    job_id: UUID
    nodes: tuple[FlowNode, ...]
    edges: tuple[FlowEdge, ...]
    truncated: bool = False

    @property
    def counts(self) -> dict[JobState, int]:
        """How many of its jobs are in each state."""
        return dict(Counter(node.state for node in self.nodes if node.state is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowSummary:
    """A flow as a list shows it: named by its oldest job, and how many of its jobs are in each state."""

    job_id: UUID
    kind: str
    queue: str
    enqueued_at: datetime | None
    jobs: int
    counts: dict[JobState, int]
    truncated: bool = False

    @property
    def settled(self) -> int:
        """How many of its jobs have ended, well or badly."""
        return sum(count for state, count in self.counts.items() if state in TERMINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPage:
    """Flows, the newest first; ask on with `cursor` as long as there is one."""

    flows: tuple[FlowSummary, ...]
    cursor: str | None = None
    complete: bool = True
    note: str = ""


def summary(flow: FlowView) -> FlowSummary:
    """A flow in one line."""
    first = flow.nodes[0]
    return FlowSummary(
        job_id=first.job_id,
        kind=first.kind,
        queue=first.queue,
        enqueued_at=first.enqueued_at,
        jobs=len(flow.nodes),
        counts=flow.counts,
        truncated=flow.truncated,
    )


def in_a_sentence(flow: FlowView) -> str:
    """Where a flow stands: what runs, what it waits for, or how it ended."""
    counts = flow.counts
    failed = counts.get(JobState.DISCARDED, 0) + counts.get(JobState.CANCELLED, 0)
    live = sum(count for state, count in counts.items() if state not in TERMINAL)
    blocked = counts.get(JobState.PENDING, 0)
    if not live:
        return (
            "It has ended, and every job completed."
            if not failed
            else f"It has ended; {_jobs(failed)} did not complete."
        )
    if failed and blocked == live:
        return f"It is held: {_jobs(failed)} did not complete, and {_jobs(blocked)} wait for that."
    running = counts.get(JobState.RUNNING, 0)
    going = f"{_jobs(running)} running" if running else "nothing is running just now"
    return f"It is under way: {going}, {_jobs(live - running)} still to start."


def _jobs(number: int) -> str:
    return f"{number:,} job" if number == 1 else f"{number:,} jobs"


def edges_among(nodes: Sequence[FlowNode], edges: Sequence[FlowEdge]) -> tuple[FlowEdge, ...]:
    """The edges whose ends are both shown."""
    shown = {node.job_id for node in nodes}
    return tuple(edge for edge in edges if edge.parent_id in shown and edge.child_id in shown)
