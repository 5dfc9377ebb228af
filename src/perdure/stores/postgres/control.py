"""Commands on jobs, queues and workers in PostgreSQL."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby
from uuid import UUID

from perdure.domain.errors import NotFound
from perdure.domain.job import LIVE, RETRIED, JobState
from perdure.domain.views import Acted, ActOutcome
from perdure.ports import By
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.locks import past_locks
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

LOOKS = 5
"""How often a job that moves while it is acted on is looked for."""

MILLISECOND = timedelta(milliseconds=1)
PERDURE = "perdure"

Step = Callable[[Sequence[UUID], By], Awaitable[Sequence[Acted]]]
"""Acts on those of the jobs that it finds in its states, and answers for them alone."""


class PostgresControl:
    """The port `Control` on PostgreSQL; workers listen on the channel `<schema>_control` for their id."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("control", schema)
        self._channel = control_channel(schema)

    async def cancel(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        return await self._followed(job_ids, by, (self._cancel_waiting, self._cancel_running), LIVE)

    async def retry(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        return await self._followed(job_ids, by, (self._hasten, self._reopen), RETRIED)

    async def replay(self, delays: Mapping[UUID, timedelta], by: By) -> Sequence[Acted]:
        async def step(job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
            milliseconds = [delays[job_id] // MILLISECOND for job_id in job_ids]
            return await self._opened(job_ids, milliseconds, by, letters_only=True)

        return await self._followed(list(delays), by, (step, step), frozenset())

    async def drop(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        return await self._followed(job_ids, by, (self._drop,), frozenset())

    async def pause(self, queue: str, by: By) -> bool:
        return await self._switched("pause", queue, by)

    async def resume(self, queue: str, by: By) -> bool:
        return await self._switched("resume", queue, by)

    async def drain(self, worker_id: UUID, by: By) -> bool:
        changed = await self._database.fetch(
            self._sql["drain_worker"], worker_id, by.actor, by.reason, self._channel
        )
        if changed:
            return True
        rows = await self._database.fetch(self._sql["worker_state"], worker_id)
        if not rows or rows[0]["state"] != "draining":
            raise NotFound("active worker", worker_id, next_step="see `perdure worker list`")
        return False

    async def carry_on_cancel_requests(self, *, limit: int) -> int:
        """A request outlives its lease when the attempt ended in another way: it then holds for the job."""
        stale = await self._database.fetch(self._sql["stale_requests"], limit)
        carried: list[UUID] = []
        for reason, rows in groupby(
            sorted(stale, key=lambda row: row["reason"]), key=lambda row: row["reason"]
        ):
            by = By(actor=PERDURE, reason=reason)
            done, _ = await past_locks(partial(self.cancel, by=by), [row["job_id"] for row in rows])
            carried += [acted.job_id for some in done for acted in some]
        gone = await self._database.fetch(self._sql["sweep_cancel_requests"], carried)
        return len(gone)

    async def _followed(
        self, job_ids: Sequence[UUID], by: By, steps: Sequence[Step], meant: frozenset[JobState]
    ) -> Sequence[Acted]:
        """Try the steps on each job until one fits; a job found in a state they are meant for has just moved there."""
        done: dict[UUID, Acted] = {}
        left = list(dict.fromkeys(job_ids))
        for look in reversed(range(LOOKS)):
            for step in steps:
                done.update({acted.job_id: acted for acted in await step(left, by)} if left else {})
                left = [job_id for job_id in left if job_id not in done]
            if not left:
                break
            states = await self._states(left)
            for job_id in left:
                if (state := states.get(job_id)) not in meant or not look:
                    done[job_id] = _refused(job_id, state, moving=state in meant)
            left = [job_id for job_id in left if job_id not in done]
        return [done[job_id] for job_id in dict.fromkeys(job_ids)]

    async def _states(self, job_ids: Sequence[UUID]) -> Mapping[UUID, JobState]:
        rows = await self._database.fetch(self._sql["states"], job_ids)
        return {row["job_id"]: JobState(row["state"]) for row in rows}

    async def _cancel_waiting(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        rows = await self._database.fetch(self._sql["cancel_waiting"], job_ids, by.actor, by.reason)
        return [
            Acted(job_id=row["job_id"], outcome=ActOutcome.CANCELLED, state=JobState(row["state"]))
            for row in rows
            if row["state"] is not None
        ]

    async def _cancel_running(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        rows = await self._database.fetch(
            self._sql["cancel_running"], job_ids, by.actor, by.reason, self._channel
        )
        return [
            Acted(
                job_id=row["job_id"],
                outcome=ActOutcome.REQUESTED if row["fresh"] else ActOutcome.UNCHANGED,
                state=JobState.RUNNING,
            )
            for row in rows
        ]

    async def _hasten(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        rows = await self._database.fetch(self._sql["hasten"], job_ids, by.actor, by.reason)
        return [
            Acted(job_id=row["job_id"], outcome=ActOutcome.AVAILABLE, state=JobState(row["state"]))
            for row in rows
        ]

    async def _reopen(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        return await self._opened(job_ids, [0] * len(job_ids), by, letters_only=False)

    async def _opened(
        self, job_ids: Sequence[UUID], delays_ms: Sequence[int], by: By, *, letters_only: bool
    ) -> Sequence[Acted]:
        """A clash whose holder cannot be seen is with a transaction that has just ended: it is looked at again."""
        event = "replayed" if letters_only else "retried"
        values = (job_ids, delays_ms, letters_only, event, by.actor, by.reason)
        _, rows = await self._database.fetch_all(
            (self._sql["lock_jobs"], (job_ids,)), (self._sql["reopen"], values)
        )
        return [
            Acted(
                job_id=row["job_id"],
                outcome=ActOutcome(row["outcome"]),
                state=JobState(row["state"]),
                holder=row["holder"],
                key=row["key"] or "",
            )
            for row in rows
            if row["outcome"] != ActOutcome.DUPLICATE or row["holder"] is not None
        ]

    async def _drop(self, job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
        rows = await self._database.fetch(self._sql["drop_letters"], job_ids, by.actor, by.reason)
        return [
            Acted(job_id=row["job_id"], outcome=ActOutcome.DROPPED, state=JobState.DISCARDED) for row in rows
        ]

    async def _switched(self, name: str, queue: str, by: By) -> bool:
        if await self._database.fetch(self._sql[name], queue, by.actor, by.reason):
            return True
        if not await self._database.fetch(self._sql["queue"], queue):
            raise NotFound("queue", queue, next_step="see `perdure queue list`")
        return False


def _refused(job_id: UUID, state: JobState | None, *, moving: bool) -> Acted:
    if state is None:
        return Acted(job_id=job_id, outcome=ActOutcome.MISSING)
    return Acted(job_id=job_id, outcome=ActOutcome.MOVING if moving else ActOutcome.ILLEGAL, state=state)


def control_channel(schema: str) -> str:
    """The channel on which workers are told that there is something to stop."""
    return f"{schema}_control"
