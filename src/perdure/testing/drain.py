"""Runs the jobs of a real database in this process until nothing is left: for integration tests without a worker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.errors import PerdureError
from perdure.domain.kind import Kind
from perdure.domain.lease import Lease
from perdure.domain.settlement import Outcome, settle
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, Scope
from perdure.runtime.app import Perdure
from perdure.runtime.lines import AttemptLine
from perdure.runtime.loading import load_kinds
from perdure.runtime.sealing import encoding
from perdure.runtime.wiring import Stores
from perdure.services.execution import Attempt
from perdure.services.stage import Stage
from perdure.stores.postgres.dispatch import PostgresDispatch
from perdure.testing.attempts import attempt
from perdure.testing.clock import timeshift

AnyKind = Kind[..., Any]


async def drain(
    app: Perdure,
    kinds: ModuleType | str | Iterable[AnyKind],
    *,
    until: Duration = 0,
    attempts_max: int = 10_000,
) -> Counter[Outcome]:
    """Run every job of these kinds, in whatever queue that is not paused, one at a time and the best ranked first.

    `kinds` is a module, an application as workers name it, or the kinds themselves. Retries, snoozes and delayed
    jobs that come due within `until` from now are run without waiting: once nothing else is left, time is advanced
    to the next of them. Everything is as in a worker, except that handlers of mode `process` run in a thread. Gives
    how many attempts ended in which way. Raises PerdureError when jobs are left after `attempts_max` attempts.
    """
    stores = await app.stores()
    known = _by_name(kinds)
    left = parse_duration(until, "until")
    async with _worker(app, stores, sorted(known)) as worker_id:
        hand = _Hand(app, stores, known, worker_id)
        while True:
            while hand.outcomes.total() < attempts_max and (lease := await hand.next()):
                await hand.run(lease)
            if hand.outcomes.total() >= attempts_max:
                raise PerdureError(
                    f"stopped after {attempts_max} attempts", next_step="see whether jobs enqueue each other"
                )
            waited = await _skip(app, known, left)
            if waited is None:
                return hand.outcomes
            left -= waited


class _Hand:
    """Claims, runs and settles jobs one at a time."""

    def __init__(self, app: Perdure, stores: Stores, kinds: dict[str, AnyKind], worker_id: WorkerId) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self._kinds = kinds
        self._settings = app.settings
        self._stores = stores
        self._worker_id = worker_id
        self._stage = Stage(stores.jobs, stores.dispatch)

    async def next(self) -> Lease | None:
        """The job to run now, suspects last; None when there is none."""
        await self._stage.run_once()
        scope = await self._scope()
        dispatch = PostgresDispatch(
            self._stores.database, schema=self._settings.schema
        )  # a new one remembers no lanes
        for isolated in (False, True):
            claimer = Claimer(worker_id=self._worker_id, process=0, isolated=isolated)
            leases = await dispatch.claim(claimer, scope, limit=1)
            if leases:
                return leases[0]
        return None

    def _line_of(self, running: Attempt) -> AttemptLine:
        settings = self._settings
        encode = encoding(running.lease, settings.keyring, settings.max_payload_bytes)
        return AttemptLine(running, self._stores.leases, settings.schema, encode=encode)

    async def run(self, lease: Lease) -> None:
        """Run a job to its end and settle it."""
        ending = await attempt(
            self._kinds[lease.kind],
            lease,
            self._line_of,
            self._settings.keyring,
        )
        if ending is None:
            self.outcomes[Outcome.COMPLETED] += 1
            return
        settlement = settle(lease, ending)
        settled = await self._stores.jobs.settle([settlement])
        self.outcomes[settlement.outcome] += 1
        if lease.token not in settled.accepted:
            await self._stores.jobs.refuse([settlement], self._worker_id)

    async def _scope(self) -> Scope:
        queues = await self._stores.read.queues()
        labels = {label for queue in queues for lane in queue.lanes for label in lane.labels}
        return Scope(
            queues=tuple(queue.name for queue in queues),
            kinds=tuple(sorted(self._kinds)),
            labels=tuple(sorted(labels)),
        )


async def _skip(app: Perdure, kinds: Iterable[str], left: timedelta) -> timedelta | None:
    """Advance to the next scheduled job; None when there is none within the time left."""
    times = await timeshift(app)
    wait = await times.next_due(sorted(kinds))
    if wait is None or wait > left:
        return None
    await times.advance(wait)
    return wait


def _by_name(kinds: ModuleType | str | Iterable[AnyKind]) -> dict[str, AnyKind]:
    if isinstance(kinds, str):
        return load_kinds(kinds)
    values: Iterable[object] = vars(kinds).values() if isinstance(kinds, ModuleType) else kinds
    return {kind.name: kind for kind in values if isinstance(kind, Kind)}


@asynccontextmanager
async def _worker(app: Perdure, stores: Stores, kinds: Sequence[str]) -> AsyncIterator[WorkerId]:
    """Be a worker among others while draining."""
    worker_id = WorkerId(await app.workers.register(kinds=kinds, name="drain", type="test"))
    beats = asyncio.create_task(_beat(app, worker_id))
    try:
        yield worker_id
    finally:
        beats.cancel()
        await stores.workers.stop(worker_id, cause="drained")


async def _beat(app: Perdure, worker_id: WorkerId) -> None:
    while True:
        await asyncio.sleep(app.settings.heartbeat_interval_s)
        await app.workers.heartbeat(worker_id)
