"""S5 and S7: parents first, and one job for a unique key."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from uuid import UUID

from perdure.domain.history import Body
from perdure.domain.job import TERMINAL, JobState, OnParentFailure
from perdure.domain.promises.scene import NEVER, Scene, Violation


def _permitted(scene: Scene, parent_id: UUID, policy: OnParentFailure) -> int | None:
    """The transaction that first ended a parent in a way that lets a child of this policy start."""
    fine = TERMINAL if policy is OnParentFailure.RUN else frozenset({JobState.COMPLETED})
    ends = [one.settle_xid for one in scene.ended.get(parent_id, ()) if one.state in fine]
    return min((end for end in ends if end is not None), default=None)


def edges(scene: Scene) -> Iterator[Violation]:
    """A child's first claim comes after an end of each parent that its edge permits."""
    verified = {one.job_id for one in scene.past.standing if one.place == "blocked" and one.verified}
    for edge in scene.past.edges:
        if edge.parent_id not in scene.bodies:
            continue
        permitted = _permitted(scene, edge.parent_id, edge.on_failure)
        claims = [one.claim_xid for one in scene.leases.get(edge.child_id, ()) if one.claim_xid is not None]
        words = f"job {edge.child_id}, its parent {edge.parent_id} ({edge.on_failure}): permitted by transaction {permitted}"
        if scene.known(edge.parent_id):
            if claims and (permitted is None or permitted >= min(claims)):
                words = f"{words}, claimed by {min(claims)}"
                yield Violation("S5", "a child started before its parent", words)
            if edge.state == "satisfied" and permitted is None:
                yield Violation("S5", "an edge is satisfied without cause", words)
        live = edge.parent_id in scene.alive  # a restore may have opened it again
        if edge.state == "waiting" and permitted is not None and edge.child_id in verified and not live:
            yield Violation("S5", "a pending job waits for a parent that has ended", words)


def pending(scene: Scene) -> Iterator[Violation]:
    waiting = Counter(edge.child_id for edge in scene.past.edges if edge.state == "waiting")
    for one in scene.past.standing:
        if one.place == "blocked" and (one.waiting != waiting[one.job_id] or not one.waiting):
            words = f"job {one.job_id} waits for {one.waiting} parents, but {waiting[one.job_id]} of its edges are open"
            yield Violation("S5", "a pending job waits for a wrong number of parents", words)


def _present(scene: Scene, body: Body) -> JobState | None:
    """The state of a job, by where it stands or by its last end."""
    if alive := scene.alive.get(body.job_id):
        return alive[0].state
    end = scene.last_end.get(body.job_id)
    return None if end is None else end.state


def keys_now(scene: Scene) -> Iterator[Violation]:
    """Whoever counts holds its key, and whoever holds a key counts."""
    now, holders = scene.past.taken_at, {key.key: key.job_id for key in scene.past.keys}
    counting = set()
    for body in scene.bodies.values():
        state = _present(scene, body)
        if body.unique_key is None or state not in body.unique_states:
            continue
        counting.add((body.job_id, body.unique_key))
        in_period = body.unique_until is None or body.unique_until > now
        if in_period and (holder := holders.get(body.unique_key)) != body.job_id:
            words = f"job {body.job_id} is {state}, which key {body.unique_key} counts, but {holder or 'nobody'} holds it"
            yield Violation("S7", "a job that counts does not hold its key", words)
    for key in scene.past.keys:
        keyed = key.job_id in scene.bodies and scene.bodies[key.job_id].unique_key is not None
        stands = key.expires_at is None or key.expires_at > now
        if keyed and stands and (key.job_id, key.key) not in counting:
            words = f"job {key.job_id} holds key {key.key} but is {_present(scene, scene.bodies[key.job_id])}"
            yield Violation("S7", "a key is held by a job that does not count", words)


def keys_then(scene: Scene) -> Iterator[Violation]:
    """No two jobs whose key counts running ones were at work at once, from the first claim of a run to its end."""
    spans: dict[str, list[tuple[int, int, UUID]]] = defaultdict(list)
    for body in scene.bodies.values():
        if body.unique_key and body.unique_until is None and JobState.RUNNING in body.unique_states:
            spans[body.unique_key] += _spans(scene, body.job_id)
    for key, found in spans.items():
        for (_, ended, first), (begun, _, second) in pairwise(sorted(found)):
            if first != second and ended >= begun:
                words = (
                    f"jobs {first} and {second} of key {key}: the second was claimed by transaction {begun}"
                )
                yield Violation("S7", "two jobs of one key were at work at once", words)


def _spans(scene: Scene, job_id: UUID) -> Iterator[tuple[int, int, UUID]]:
    """When each run of a job began and ended."""
    live = {one.run for one in scene.alive.get(job_id, ())}
    records = [*scene.ended.get(job_id, ()), *(one for one in scene.past.running if one.job_id == job_id)]
    for run in {one.run for one in records}:
        begun = [one.claim_xid for one in records if one.run == run and one.claim_xid is not None]
        ends = [
            one.settle_xid for one in records if one.run == run and one.state in TERMINAL and one.settle_xid
        ]
        if begun:
            yield min(begun), NEVER if run in live or not ends else max(ends), job_id
