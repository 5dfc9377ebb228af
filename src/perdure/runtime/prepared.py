"""Jobs that are ready to be enqueued, and how many of them become columns."""

import os
from collections.abc import Sequence
from threading import Lock
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import force_setattr

from perdure.domain.bounds import OnDuplicate
from perdure.domain.bulk import Bulk, columns
from perdure.domain.ids import Ids
from perdure.domain.job import JobId, NewJob, Shape
from perdure.domain.kind import Kind
from perdure.runtime.new_ids import new_ids

R_co = TypeVar("R_co", covariant=True)


class _Naming:
    """Gives ids to what is prepared, one thread at a time: what two threads enqueue has one id."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """With no thread in the way, as after a fork."""
        self._lock = Lock()

    def name(self, jobs: "Sequence[Prepared[Any]]") -> None:
        """Give ids to those that have none; they rise in the order of the jobs."""
        with self._lock:
            fresh = [one for one in jobs if one.raw_id is None]
            for one, raw in zip(fresh, new_ids(len(fresh)).raw, strict=True):
                force_setattr(one, "raw_id", raw)


_NAMING = _Naming()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_NAMING.renew)


class Prepared(msgspec.Struct, Generic[R_co], frozen=True, kw_only=True, gc=False, eq=False):
    """A job that is ready to be enqueued, and that others can depend on. Enqueued again, as after a call whose outcome is unknown, it is stored once.

    One that has nothing but its arguments is told by its `shape` and its `args`, and is `made` a job when somebody asks for it: a bulk
    call stores columns, and would feel an object for each. It has its id from the moment on in which that is asked for, or in which
    it is stored or pickled; a program that forks and enqueues it on both sides asks first.
    """

    kind: Kind[..., Any]
    on_duplicate: OnDuplicate
    source: Shape | NewJob
    args: str = ""
    raw_id: bytes | None = None

    @property
    def id(self) -> UUID:
        """The id of the job."""
        if isinstance(self.source, NewJob):
            return self.source.id
        if self.raw_id is None:
            _NAMING.name((self,))
        return UUID(bytes=self.raw_id)

    @property
    def job(self) -> NewJob:
        """The job as it is stored."""
        if isinstance(self.source, NewJob):
            return self.source
        return NewJob(id=JobId(self.id), shape=self.source, args=self.args)

    def but(self, job: NewJob) -> "Prepared[R_co]":
        """The same with this job in the place of its own."""
        return Prepared(kind=self.kind, on_duplicate=self.on_duplicate, source=job)

    def __copy__(self) -> "Prepared[R_co]":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.kind, self.on_duplicate, self.source, self.args, self.id.bytes)


def _unpickled(*values: Any) -> Prepared[Any]:
    return Prepared(**dict(zip(Prepared.__struct_fields__, values, strict=True)))


def in_columns(jobs: Sequence[Prepared[Any]]) -> tuple[Ids, list[Bulk]] | None:
    """The ids of the jobs, and the jobs by their shapes; none where one of them has more than its arguments."""
    shapes = [one.source for one in jobs if isinstance(one.source, Shape)]
    if len(shapes) < len(jobs):
        return None
    _NAMING.name(jobs)
    ids = Ids([one.raw_id for one in jobs if one.raw_id is not None])
    return ids, columns(shapes, ids, [one.args for one in jobs])
