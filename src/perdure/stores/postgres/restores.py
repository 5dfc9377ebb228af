"""Restores in place in PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from perdure.domain.errors import Conflict, NotFound, PastUnknown, SnapshotUnusable
from perdure.domain.job import JobState
from perdure.domain.restore import (
    UNDOING,
    Action,
    CaseCount,
    Circumstance,
    Conflicts,
    CutOf,
    Phase,
    Restore,
    RestoreItem,
    RestoreScope,
)
from perdure.domain.snapshot import Manifest
from perdure.ports import By, LeaseOf, Place
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.leases import held
from perdure.stores.postgres.past import PostgresPast
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)
NEWEST = UUID(int=2**128 - 1)
EVER = datetime.fromtimestamp(0, UTC)
"""When it is not known since when the oldest transaction was open: before all of them."""


class PostgresRestores:
    """The port `Restores` on PostgreSQL."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("restores", schema)
        self._control = statements("control", schema)

    async def file(
        self, cut: CutOf, scope: RestoreScope, conflicts: Conflicts, by: By, *, undoes: UUID | None = None
    ) -> UUID:
        actions = UNDOING if undoes else conflicts.actions()
        named = {"queues": scope.queues, "kinds": scope.kinds, "graph": scope.graph, "undoes": undoes}
        told = {name: value for name, value in named.items() if value}
        values = (
            cut.at,
            cut.cut,
            cut.newest,
            cut.open_since,
            cut.source,
            _json(told),
            list(scope.queues) or None,
            list(scope.kinds) or None,
            scope.graph,
            undoes,
            _json({circumstance.value: action.value for circumstance, action in actions.items()}),
            list(conflicts.rerun),
            by.actor,
            by.reason,
        )
        (filed,) = await self._database.fetch(self._sql["file"], *values)
        plan = UUID(str(filed["id"]))
        if filed["is_empty"]:
            await self._database.fetch(self._sql["withdraw"], plan)
            raise NotFound("job in this scope:", _json(told), next_step="see `perdure queue list`")
        await self._database.fetch_all(
            (self._sql["patience"], ()), (self._sql["draw"], (plan, Phase.PLANNED.value))
        )
        return plan

    async def get(self, id: UUID) -> Restore:
        rows = await self._database.fetch(self._sql["get"], id)
        if not rows:
            raise NotFound("restore", id, next_step="see `perdure restore list`")
        return _restore(rows[0])

    async def moved(self, id: UUID) -> tuple[int, Sequence[UUID]]:
        _, (row,) = await self._database.fetch_all((self._sql["patience"], ()), (self._sql["moved"], (id,)))
        return int(row["moved"]), row["sample"]

    async def begin(self, id: UUID, *, digest: str, drain: timedelta, tolerance: int, by: By) -> bool:
        values = (id, digest, drain // MILLISECOND, tolerance, by.actor, by.reason)
        try:
            return bool(await self._database.fetch(self._sql["begin"], *values))
        except asyncpg.UniqueViolationError as error:
            raise Conflict(
                "another restore is under way", next_step="see `perdure restore list`, and wait for its end"
            ) from error

    async def pass_on(self, id: UUID, now: Phase, then: Phase, *, draw: bool = False) -> None:
        over = (self._sql["pass_on"], (id, now.value, then.value))
        if not draw:
            await self._database.fetch_all(over)
            return
        await self._database.fetch_all(
            (self._sql["touch"], (id,)),
            (self._sql["patience"], ()),
            (self._sql["draw"], (id, now.value)),
            over,
        )

    async def end(self, id: UUID, now: Phase, then: Phase, report: str) -> bool:
        return bool(await self._database.fetch(self._sql["end"], id, now.value, then.value, report))

    async def running(self, id: UUID) -> int:
        _, (row,) = await self._database.fetch_all((self._sql["touch"], (id,)), (self._sql["running"], (id,)))
        return int(row["running"])

    async def leases(self, id: UUID, *, limit: int) -> Sequence[LeaseOf]:
        return [held(row) for row in await self._database.fetch(self._sql["leases"], id, limit)]

    async def note(self, id: UUID, jobs: Sequence[UUID], outcome: str) -> None:
        await self._database.fetch(self._sql["note"], id, jobs, outcome)

    async def next(self, id: UUID, action: Action, *, limit: int) -> Sequence[UUID]:
        rows = await self._database.fetch(self._sql["next"], id, action.value, limit)
        return [row["job_id"] for row in rows]

    async def write(self, id: UUID, action: Action, jobs: Sequence[UUID]) -> Sequence[Place]:
        held_open = ((self._sql["touch"], (id,)), (self._control["lock_jobs"], (jobs,)))
        if action is Action.CANCEL:
            restore = await self.get(id)
            why = f"not there at {restore.at.isoformat()}: restore {id}"
            await self._database.fetch_all(
                *held_open,
                (self._control["cancel_waiting"], (jobs, restore.actor, why)),
                (self._sql["note"], (id, jobs, "done")),
            )
            return ()
        statement = self._sql["end_again" if action is Action.END else "reopen"]
        _, _, rows = await self._database.fetch_all(*held_open, (statement, (id, jobs)))
        return [Place(row["lane"], row["band"], row["rank"], row["job_id"]) for row in rows]


class PostgresPlans:
    """The plans and restores there are: lists of them, and those that somebody must look after."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("restores", schema)
        self._restores = PostgresRestores(database, schema=schema)

    async def newest(self, limit: int) -> Sequence[Restore]:
        """Plans and restores, the newest first."""
        return [
            await self._restores.get(row["id"])
            for row in await self._database.fetch(self._sql["newest"], limit)
        ]

    async def items(self, id: UUID, *, after: UUID, limit: int) -> Sequence[RestoreItem]:
        rows = await self._database.fetch(self._sql["items"], id, after, limit)
        return [
            RestoreItem(
                job_id=row["job_id"],
                circumstance=Circumstance(row["circumstance"]),
                action=Action(row["action"]),
                outcome=row["outcome"] or "",
                state_then=JobState(row["state_then"]) if row["state_then"] else None,
                state_now=JobState(row["state_now"]),
            )
            for row in rows
        ]

    async def stalled(self, silent: timedelta) -> Sequence[UUID]:
        """The restore that was begun and that nobody has carried on for so long."""
        rows = await self._database.fetch(self._sql["stalled"], silent // MILLISECOND)
        return [row["id"] for row in rows]

    async def forget(self, keep: timedelta) -> int:
        """Forget what ended, or was planned, longer ago; gives how many."""
        (row,) = await self._database.fetch(self._sql["forget"], keep // MILLISECOND)
        return int(row["forgotten"])

    async def withdraw(self, id: UUID) -> bool:
        """Forget a plan; false when there is none, or it has been begun."""
        return bool(await self._database.fetch(self._sql["withdraw"], id))


class PostgresCuts:
    """Finds the cut that a restore goes back to."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._schema = schema
        self._sql = statements("restores", schema)

    async def of_time(self, moment: datetime) -> CutOf:
        """The last moment remembered until then. Raises PastUnknown."""
        found = await PostgresPast(self._database, schema=self._schema).cut(moment)
        return CutOf(
            at=found.at,
            cut=found.cut,
            newest=found.newest,
            open_since=found.open_since,
            source=f"the moment {found.at.isoformat()}",
        )

    async def of_snapshot(self, manifest: Manifest) -> CutOf:
        """The cut of a snapshot of this system, as long as the history since is here.

        Raises SnapshotUnusable and PastUnknown.
        """
        (here,) = await self._database.fetch(self._sql["horizon"], manifest.days, manifest.at)
        if here["installation"] != manifest.installation or here["era"] < manifest.era:
            raise SnapshotUnusable(
                manifest.id,
                "is of another system; in place, a system can only be what it was itself",
                next_step="look at it in a fork: `perdure snapshot restore --fork`",
            )
        if here["missing"]:
            raise PastUnknown(
                f"the history of {here['missing'][0]:%Y-%m-%d} is no longer kept, so that snapshot {manifest.id} cannot be restored in place",
                earliest=here["earliest"],
                next_step="look at it in a fork: `perdure snapshot restore --fork`",
            )
        return CutOf(
            at=manifest.at,
            cut=manifest.cut if here["era"] == manifest.era else manifest.saved_cut,
            newest=NEWEST,
            open_since=here["open_since"] or EVER,
            source=f"snapshot {manifest.id}",
        )

    async def before(self, id: UUID) -> CutOf:
        """The cut at which a restore was about to change its first job. Raises NotFound and Conflict."""
        rows = await self._database.fetch(self._sql["get"], id)
        if not rows:
            raise NotFound("restore", id, next_step="see `perdure restore list`")
        if rows[0]["before_at"] is None:
            raise Conflict(f"restore {id} is {rows[0]['phase']} and has changed nothing")
        return CutOf(
            at=rows[0]["before_at"],
            cut=rows[0]["before_text"],
            newest=NEWEST,
            open_since=EVER,
            source=f"the moment before restore {id}",
        )


def _restore(row: Row) -> Restore:
    return Restore(
        id=row["id"],
        phase=Phase(row["phase"]),
        digest=row["digest"],
        at=row["cut_at"],
        source=row["source"],
        scope=msgspec.json.decode(row["scope_text"]),
        policy=msgspec.json.decode(row["policy_text"]),
        rerun=tuple(row["rerun_kinds"]),
        actor=row["actor"],
        reason=row["reason"],
        planned_at=row["planned_at"],
        begun_at=row["begun_at"],
        drain_by=row["drain_by"],
        before_at=row["before_at"],
        ended_at=row["ended_at"],
        now=row["now"],
        tolerance=row["tolerance"],
        undoes=row["undoes"],
        holds=row["jobs"] is None,
        report=row["report"],
        cases=msgspec.json.decode(row["cases_text"], type=tuple[CaseCount, ...]),
        outcomes=msgspec.json.decode(row["outcomes_text"], type=tuple[CaseCount, ...]),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
