"""The promises S1 to S7 and L1 as rules over plain records: pure, in memory, for any source of history.

The same promises are kept in SQL for databases of any size (`stores/postgres/sql/check.sql`); a test breaks each of them in
each way and sees that both name the same clause. The order of events is the order of transaction ids: a claim gets its id
after it has seen the row that it takes.
"""

from collections import defaultdict
from uuid import UUID

from perdure.domain.history import Past
from perdure.domain.promises.counts import limits, miscounts
from perdure.domain.promises.leases import order, slots
from perdure.domain.promises.places import letters, orphans, places, several_ends
from perdure.domain.promises.scene import Scene, Violation, last_ends
from perdure.domain.promises.ties import edges, keys_now, keys_then, pending

__all__ = ["Violation", "judge", "left_over", "looked"]


def judge(past: Past, *, crash_limit: int, interruption_limit: int) -> list[Violation]:
    """Every violation of S1 to S7; the limits are for jobs without their own."""
    scene = Scene(past)
    return [
        *places(scene),
        *several_ends(scene),
        *letters(scene),
        *orphans(past, scene.bodies),
        *order(scene),
        *limits(scene, crash_limit, interruption_limit),
        *miscounts(scene),
        *edges(scene),
        *pending(scene),
        *slots(scene),
        *keys_now(scene),
        *keys_then(scene),
    ]


def left_over(past: Past) -> list[Violation]:
    """L1, at a moment at which the backlog should have drained: every job that has not ended and that nothing holds back.

    A job may be held by a parent that ended without success, or that is held back itself, and by a time that has not come.
    """
    open_edges: dict[UUID, set[UUID]] = defaultdict(set)
    for edge in past.edges:
        if edge.state == "waiting":
            open_edges[edge.child_id].add(edge.parent_id)
    last = last_ends(past)
    live = {one.job_id for one in past.standing} | {one.job_id for one in past.running}
    future = {one.job_id for one in past.standing if one.run_at is not None and one.run_at > past.taken_at}

    def excused(job_id: UUID) -> bool:
        if job_id in future:
            return True
        return any(
            (parent in live and excused(parent)) or (parent not in live and parent in last)
            for parent in open_edges[job_id]
        )

    return [
        Violation(
            "L1", "a job is left over", f"job {one.job_id} is still {one.state} and nothing holds it back"
        )
        for one in past.standing
        if not excused(one.job_id)
    ] + [
        Violation("L1", "a lease is left over", f"job {one.job_id} still runs under lease {one.token}")
        for one in past.running
    ]


def looked(past: Past) -> dict[str, int]:
    """How many records each promise is judged by."""
    leases = sum(one.token is not None for one in past.held)
    live = len(past.standing) + len(past.running)
    return {
        "S1": len(past.bodies)
        + live
        + len(past.ended)
        + len(past.letters)
        + len(past.edges)
        + len(past.keys),
        "S2": leases,
        "S3": leases,
        "S4": leases + live,
        "S5": len(past.edges),
        "S6": sum(one.slot is not None for one in past.held),
        "S7": sum(body.unique_key is not None for body in past.bodies) + len(past.keys),
    }
