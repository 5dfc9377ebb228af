"""The records by job, as the rules look at them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from perdure.domain.history import Body, Held, Past, Standing
from perdure.domain.job import TERMINAL, JobState

NEVER = 2**63
ORDER = {state: place for place, state in enumerate(JobState)}
_Record = TypeVar("_Record", Held, Standing)


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: which, in what way, and of what in words."""

    promise: str
    clause: str
    words: str


class Scene:
    """The records by job."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self.bodies: Mapping[UUID, Body] = {body.job_id: body for body in past.bodies}
        leased = (
            Standing(job_id=one.job_id, place="leased", state=JobState.RUNNING, run=one.run)
            for one in past.running
        )
        self.alive = by_job([*past.standing, *leased])
        self.ended = by_job(past.ended)
        self.leases = by_job([one for one in past.held if one.token is not None])
        self.newest = {job_id: max(one.run for one in held) for job_id, held in self.ended.items()}
        self.last_end = last_ends(past)

    def ended_run(self, job_id: UUID) -> int | None:
        end = self.last_end.get(job_id)
        return None if end is None else end.run

    def known(self, job_id: UUID) -> bool:
        """Whether the history tells of the job from its beginning."""
        body, since = self.bodies.get(job_id), self.past.since
        return body is not None and (since is None or body.enqueued_at >= since)


def by_job(records: Iterable[_Record]) -> dict[UUID, list[_Record]]:
    found: dict[UUID, list[_Record]] = defaultdict(list)
    for one in records:
        found[one.job_id].append(one)
    return found


def last_ends(past: Past) -> dict[UUID, Held]:
    """The end of the newest run that has one, of each job; of several ends of one run the gravest."""
    ends: dict[UUID, Held] = {}
    for one in past.ended:
        if one.state in TERMINAL and (one.job_id not in ends or _rank(ends[one.job_id]) < _rank(one)):
            ends[one.job_id] = one
    return ends


def _rank(held: Held) -> tuple[int, int]:
    return held.run, ORDER[held.state] if held.state else -1


def by_claim(held: Held) -> tuple[int, int]:
    """The order of leases: by claim, then by end."""
    return (
        NEVER if held.claim_xid is None else held.claim_xid,
        NEVER if held.settle_xid is None else held.settle_xid,
    )
