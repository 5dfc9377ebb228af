"""Snapshots and restores of the running system over HTTP."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.params import FromPath, JSONBody, Parameter

from perdure.domain.access import Permission
from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption
from perdure.domain.restore import Conflicts, Restore, RestoreItem, RestoreScope
from perdure.domain.snapshot import Difference, Manifest
from perdure.domain.views import ActReport
from perdure.ports import By
from perdure.runtime.restore_operations import FIRST, InPlaceOptions
from perdure.surfaces.web.api.bodies import Acting, Applying, Planning
from perdure.surfaces.web.context import GivenIdentity, GivenWeb, Web
from perdure.surfaces.web.routing import acting, reading

TAG = "state"
SOON_S = 2.0
SnapshotId = Annotated[str, Parameter(description="The id of a full snapshot", min_length=1, max_length=200)]
After = Annotated[UUID, Parameter(description="Go on after this job")]
Most = Annotated[int, Parameter(ge=1, le=10_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotAnswer:
    """A whole snapshot; `key` is the id of the key that it is encrypted with."""

    id: str
    kind: str
    at: datetime
    rows: int
    stored_bytes: int
    automatic: bool
    base: str | None
    key: str | None
    took_s: float

    @classmethod
    def of(cls, one: Manifest) -> "SnapshotAnswer":
        return cls(
            id=one.id,
            kind=str(one.kind),
            at=one.at,
            rows=one.rows,
            stored_bytes=one.stored_bytes,
            automatic=one.automatic,
            base=one.base,
            key=one.encryption.key if one.encryption else None,
            took_s=one.took_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsAnswer:
    """What is kept, the newest first; `half` were begun and not ended, and are never restored."""

    snapshots: tuple[SnapshotAnswer, ...]
    half: tuple[str, ...]


@reading("/snapshots", tag=TAG, summary="The snapshots that are kept")
async def list_snapshots(web: GivenWeb) -> SnapshotsAnswer:
    state = web.app.state
    whole, half = await state.snapshots(), await state.half_snapshots()
    return SnapshotsAnswer(snapshots=tuple(map(SnapshotAnswer.of, whole)), half=tuple(one.id for one in half))


@reading("/snapshots/difference", tag=TAG, summary="How many rows each table has in two full snapshots")
async def compare_snapshots(web: GivenWeb, first: SnapshotId, second: SnapshotId) -> Difference:
    return await web.app.state.compare_snapshots(first, second)


@reading("/restores", tag=TAG, summary="Plans and restores, the newest first")
async def list_restores(web: GivenWeb) -> tuple[Restore, ...]:
    return tuple(await web.app.state.restores())


@reading("/restores/{restore_id:uuid}", tag=TAG, summary="A plan or restore, and what came of it")
async def get_restore(web: GivenWeb, restore_id: FromPath[UUID]) -> Restore:
    return await web.app.state.restore(restore_id)


@reading("/restores/{restore_id:uuid}/jobs", tag=TAG, summary="The jobs that a restore changes, by their ids")
async def list_restore_jobs(
    web: GivenWeb, restore_id: FromPath[UUID], after: After = FIRST, limit: Most = 1_000
) -> tuple[RestoreItem, ...]:
    return tuple(await web.app.state.restore_jobs(restore_id, after=after, limit=limit))


@acting("/restores", Permission.RESTORE, tag=TAG, summary="Plan a restore; no job is changed")
async def plan_restore(web: GivenWeb, identity: GivenIdentity, data: JSONBody[Planning]) -> Restore:
    if (data.at is None) == (data.snapshot is None):
        raise InvalidOption("at", "name either a time or a snapshot to go back to")
    options = InPlaceOptions(
        scope=RestoreScope(queues=tuple(data.queues), kinds=tuple(data.kinds), graph=data.graph),
        conflicts=Conflicts(policy=data.policy, choices=data.choices, rerun=tuple(data.rerun)),
    )
    options.conflicts.actions()
    by = By(actor=identity.name, reason=data.reason)
    return await web.app.state.plan_restore(data.at or data.snapshot or "", options, by=by)


@acting(
    "/restores/{restore_id:uuid}/undo",
    Permission.RESTORE,
    tag=TAG,
    summary="Plan to take back what a restore changed; no job is changed",
)
async def plan_undoing(
    web: GivenWeb, identity: GivenIdentity, restore_id: FromPath[UUID], data: JSONBody[Acting]
) -> Restore:
    by = By(actor=identity.name, reason=data.reason)
    return await web.app.state.plan_undoing(restore_id, by=by)


@acting(
    "/restores/{restore_id:uuid}/apply",
    Permission.RESTORE,
    tag=TAG,
    summary="Carry a plan out, the one of this digest; it goes on by itself, and the answer tells how far it has come",
)
async def apply_restore(
    web: GivenWeb, identity: GivenIdentity, restore_id: FromPath[UUID], data: JSONBody[Applying]
) -> Restore:
    plan = await web.app.state.restore(restore_id)
    if data.dry_run:
        return plan
    by = By(actor=identity.name, reason=data.reason)
    await _begun(web, replace(plan, digest=data.digest), data, by)
    return await web.app.state.restore(restore_id)


async def _begun(web: Web, plan: Restore, data: Applying, by: By) -> None:
    """Begin a restore, and wait a moment for it. Raises what refuses it at once."""
    drain = parse_duration(data.drain, "drain")

    async def does(_: Callable[[ActReport], None]) -> ActReport:
        done = await web.app.state.apply_restore(plan, drain=drain, tolerance=data.tolerance, by=by)
        return ActReport(
            verb="restore", actor=by.actor, reason=by.reason, dry_run=False, matched=done.changes
        )

    one, task = web.undertakings.begin("restore", by.actor, f"/restores/{plan.id}", does)
    await asyncio.wait({task}, timeout=SOON_S)
    if one.error is not None:
        raise one.error


HANDLERS = (
    list_snapshots,
    compare_snapshots,
    list_restores,
    get_restore,
    list_restore_jobs,
    plan_restore,
    plan_undoing,
    apply_restore,
)
