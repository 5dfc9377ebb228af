"""Restore in place: make chosen jobs of a live system again what they were at a cut, by a plan, step by step."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import Conflict, InvalidOption
from perdure.domain.restore import (
    EVERYTHING,
    UNDER_WAY,
    WRITTEN,
    Action,
    Conflicts,
    CutOf,
    Phase,
    Restore,
    RestoreScope,
)
from perdure.domain.settlement import Interrupted, settle
from perdure.ports import By, Dispatch, Jobs, Place
from perdure.restore_ports import Restores

BATCH = 500
HOLD = timedelta(seconds=5)
"""How long a claimer may still take from a lane that is held: it asks for its lanes every second, and then may wait for three turns."""
DRAIN = timedelta(minutes=5)
LOOK_S = 0.5
PLANNED_ANEW = "plan anew, look at the plan, and apply that"


class Judgement(Protocol):
    """What the check of the promises found."""

    @property
    def ok(self) -> bool: ...

    @property
    def broken(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a plan is carried out: how long running jobs may take, and how many jobs may have moved on since."""

    drain: timedelta = DRAIN
    tolerance: int = 0


AS_USUAL = Terms()

Heard = Callable[[Restore], None]


def unheard(_: Restore) -> None:
    """For callers that do not follow the progress."""


class RestoreInPlace:
    """Plans and carries out restores of a live system.

    A restore only goes forward: jobs that have ended get a new run, jobs that wait are ended, leases are taken away; each
    change leaves an event that names the restore, and history stays as it is. Hence a restore can be undone by another one.
    Every step looks for what is left to do and does it in one transaction, so that whoever carries a restore on after a
    crash, at whatever step, comes to the same end.
    """

    def __init__(
        self,
        restores: Restores,
        jobs: Jobs,
        dispatch: Dispatch,
        *,
        judge: Callable[[], Awaitable[Judgement]],
        pause: Callable[[float], Awaitable[None]],
        hold: timedelta = HOLD,
    ) -> None:
        self._restores = restores
        self._jobs = jobs
        self._dispatch = dispatch
        self._judge = judge
        self._pause = pause
        self._hold_for = hold

    async def plan(
        self, cut: CutOf, by: By, *, scope: RestoreScope = EVERYTHING, conflicts: Conflicts | None = None
    ) -> Restore:
        """Find out what a restore would do, and keep that as a plan. No job is changed.

        Raises InvalidOption.
        """
        return await self._restores.get(await self._restores.file(cut, scope, conflicts or Conflicts(), by))

    async def plan_undoing(self, id: UUID, cut: CutOf, by: By) -> Restore:
        """The plan that takes back what a restore changed, as far as it has not run since. Raises NotFound and Conflict."""
        undone = await self._restores.get(id)
        if undone.before_at is None:
            raise Conflict(f"restore {id} is {undone.phase} and has changed nothing")
        # What it had opened again, and an undoing ended as completed, comes back by undoing that.
        conflicts = Conflicts(rerun=undone.rerun)
        filed = await self._restores.file(cut, EVERYTHING, conflicts, by, undoes=id)
        return await self._restores.get(filed)

    async def apply(
        self, id: UUID, by: By, *, digest: str, terms: Terms = AS_USUAL, heard: Heard = unheard
    ) -> Restore:
        """Carry a plan out: hold its lanes, let running jobs end or fence them, write, check the promises, let go.

        `digest` is that of the plan that was looked at. When more jobs than the tolerance have moved on since, nothing is
        changed. Raises NotFound, InvalidOption and Conflict.
        """
        if terms.tolerance < 0 or terms.drain < timedelta(0):
            raise InvalidOption("tolerance", "tolerance and drain must not be negative")
        plan = await self._restores.get(id)
        if plan.phase is not Phase.PLANNED:
            raise Conflict(
                f"restore {id} is {plan.phase}, not planned", next_step=f"see `perdure restore show {id}`"
            )
        if plan.digest != digest:
            raise Conflict(f"the digest of plan {id} is {plan.digest}, not {digest}", next_step=PLANNED_ANEW)
        await self._refuse_moved(id, terms.tolerance)
        if not await self._restores.begin(
            id, digest=digest, drain=terms.drain, tolerance=terms.tolerance, by=by
        ):
            raise Conflict(f"plan {id} was begun or drawn anew meanwhile", next_step=PLANNED_ANEW)
        return await self.carry_on(id, heard=heard)

    async def carry_on(self, id: UUID, *, heard: Heard = unheard) -> Restore:
        """Take a restore that was begun to its end; one that has ended is left as it is."""
        while True:
            restore = await self._restores.get(id)
            heard(restore)
            if restore.phase not in UNDER_WAY:
                return restore
            await self._step(restore)

    async def release(self, id: UUID, *, reason: str) -> Restore:
        """Let go the lanes of a restore that found a promise broken. Raises NotFound and Conflict."""
        if not await self._restores.end(id, Phase.BROKEN, Phase.RELEASED, f"released: {reason}"):
            raise Conflict(f"restore {id} does not hold its lanes because of a broken promise")
        return await self._restores.get(id)

    async def _step(self, restore: Restore) -> None:
        steps: Mapping[Phase, Callable[[Restore], Awaitable[None]]] = {
            Phase.HOLDING: self._hold,
            Phase.DRAINING: self._drain,
            Phase.FENCING: self._fence,
            Phase.WRITING: self._write,
            Phase.CHECKING: self._check,
        }
        await steps[restore.phase](restore)

    async def _hold(self, restore: Restore) -> None:
        """Wait until every claimer has seen that the lanes are held; only then is it certain that nothing moves."""
        if restore.holds and restore.begun_at is not None and restore.now - restore.begun_at < self._hold_for:
            await self._pause(LOOK_S)
            return
        moved, sample = await self._restores.moved(restore.id)
        if moved > restore.tolerance:
            await self._restores.end(restore.id, Phase.HOLDING, Phase.REFUSED, _moved(moved, sample))
            return
        await self._restores.pass_on(restore.id, Phase.HOLDING, Phase.DRAINING, draw=True)

    async def _drain(self, restore: Restore) -> None:
        over = restore.drain_by is None or restore.now >= restore.drain_by
        if not over and await self._restores.running(restore.id):
            await self._pause(LOOK_S)
            return
        await self._restores.pass_on(restore.id, Phase.DRAINING, Phase.FENCING)

    async def _fence(self, restore: Restore) -> None:
        """Take the leases that are left; the late results of their workers are refused, and the jobs wait as before."""
        held = await self._restores.leases(restore.id, limit=BATCH)
        if not held:
            await self._restores.pass_on(restore.id, Phase.FENCING, Phase.WRITING, draw=True)
            return
        ending = Interrupted(cause=f"taken away by restore {restore.id}", started=False)
        settled = await self._jobs.settle([settle(each.lease, ending) for each in held])
        await self._announce(settled.released)
        fenced = [each.lease.job_id for each in held if each.lease.token in settled.accepted]
        await self._restores.note(restore.id, fenced, "fenced")

    async def _write(self, restore: Restore) -> None:
        for action in WRITTEN:
            if jobs := await self._restores.next(restore.id, action, limit=BATCH):
                await self._announce(await self._restores.write(restore.id, action, jobs))
                return
        for action in (Action.DRAIN, Action.FENCE):
            # Without held lanes a job may have started since; what runs is let run.
            if jobs := await self._restores.next(restore.id, action, limit=BATCH):
                await self._restores.note(restore.id, jobs, "started meanwhile")
                return
        await self._restores.pass_on(restore.id, Phase.WRITING, Phase.CHECKING)

    async def _check(self, restore: Restore) -> None:
        found = await self._judge()
        if found.ok:
            await self._restores.end(restore.id, Phase.CHECKING, Phase.DONE, "all promises hold")
            return
        why = f"{', '.join(found.broken)} do not hold: see `perdure db check`, then `perdure restore release {restore.id}`"
        await self._restores.end(restore.id, Phase.CHECKING, Phase.BROKEN, why)

    async def _refuse_moved(self, id: UUID, tolerance: int) -> None:
        moved, sample = await self._restores.moved(id)
        if moved > tolerance:
            raise Conflict(
                f"{_moved(moved, sample)}; {tolerance} are allowed and nothing was changed",
                next_step=PLANNED_ANEW,
            )

    async def _announce(self, places: Sequence[Place]) -> None:
        if places:
            await self._dispatch.announce(places)


def _moved(moved: int, sample: Sequence[UUID]) -> str:
    some = ", ".join(str(job) for job in sample[:3])
    return f"{moved} jobs are no longer as they were when the plan was drawn ({some})"
