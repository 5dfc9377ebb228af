"""Jobs that are ready to be enqueued, and how many of them become columns."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from perdure.domain.bounds import OnDuplicate
from perdure.domain.bulk import Bulk
from perdure.domain.ids import Ids
from perdure.domain.job import JobId, NewJob, Shape
from perdure.domain.kind import Kind
from perdure.domain.options import Mould
from perdure.runtime.new_ids import new_id, new_ids

R_co = TypeVar("R_co", covariant=True)


class Prepared(msgspec.Struct, Generic[R_co], gc=False, eq=False):
    """A job that is ready to be enqueued. Others can depend on it: its id stays what it is from the moment in which it is asked for.

    One that has nothing but its arguments is made a `NewJob` when somebody asks for that, and gets an id when somebody asks for that or
    it is stored. A bulk call asks for neither: its jobs are stored as columns, and it would feel an object for each.
    """

    kind: Kind[..., Any]
    mould: Mould
    args: str
    made: NewJob | None = None
    raw_id: bytes | None = None

    @property
    def id(self) -> UUID:
        """The id of the job."""
        if self.made is not None:
            return self.made.id
        if self.raw_id is None:
            self.raw_id = new_id().bytes
        return UUID(bytes=self.raw_id)

    @property
    def job(self) -> NewJob:
        """The job as it is stored."""
        if self.made is None:
            self.made = self.mould.job(self.args, JobId(self.id))
        return self.made

    @property
    def on_duplicate(self) -> OnDuplicate:
        """What happens when another job holds its unique key."""
        return self.mould.on_duplicate

    def but(self, job: NewJob) -> "Prepared[R_co]":
        """The same with this job in the place of its own."""
        return Prepared(self.kind, self.mould, job.args, job)


def in_columns(jobs: Sequence[Prepared[Any]]) -> tuple[Ids, list[Bulk]] | None:
    """The ids of the jobs, and the jobs by their shapes; none where one of them has more than its arguments.

    Those without an id get theirs now, and keep it: a call whose outcome is unknown may be repeated.
    """
    moulds = {one.mould for one in jobs}
    if not all(mould.is_bare for mould in moulds) or any(one.made is not None for one in jobs):
        return None
    fresh = [one for one in jobs if one.raw_id is None]
    for one, raw in zip(fresh, new_ids(len(fresh)).raw, strict=True):
        one.raw_id = raw
    ids = Ids([one.raw_id for one in jobs if one.raw_id is not None])
    shapes = {mould.shape for mould in moulds}
    if len(shapes) == 1:
        return ids, [Bulk(shapes.pop(), ids, [one.args for one in jobs])]
    groups: dict[Shape, tuple[list[bytes], list[str]]] = {shape: ([], []) for shape in shapes}
    for one, raw in zip(jobs, ids.raw, strict=True):
        raws, args = groups[one.mould.shape]
        raws.append(raw)
        args.append(one.args)
    return ids, [Bulk(shape, Ids(raws), args) for shape, (raws, args) in groups.items()]
