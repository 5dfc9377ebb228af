"""The specification's operations on jobs and workers, by name; they call the same services as everything else."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from uuid import UUID

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.errors import ClaimLost, Conflict
from perdure.domain.failure import report_of
from perdure.domain.kind import Kind
from perdure.domain.lease import Lease
from perdure.domain.payload import encode_plain
from perdure.domain.rank import queue_key
from perdure.domain.retry import Backoff
from perdure.domain.settlement import Completed, Ending, ErrorReport, Failed, settle
from perdure.domain.views import ActReport, JobDetail, JobPage
from perdure.domain.worker import NewWorker, Worker, WorkerId, WorkerState
from perdure.ports import Claimer, Dispatch, Scope
from perdure.runtime.handles import Handle
from perdure.runtime.plain_settings import plain
from perdure.runtime.spawning import start_worker

if TYPE_CHECKING:
    from perdure.runtime.app import Perdure
    from perdure.runtime.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

POLL_S = 0.1


class JobOperations:
    """createJob, acquireJob, completeJob, failJob, getQueueKey, and their companions."""

    def __init__(self, app: "Perdure") -> None:
        self._app = app

    async def create(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Enqueue a job; `app.using(...).enqueue` takes options."""
        return await self._app.enqueue(kind, *args, **kwargs)

    async def acquire(self, worker_id: UUID, limit: int = 1, wait: Duration = 0) -> Sequence[Lease]:
        """Lease up to `limit` jobs for a registered worker, waiting up to `wait` for the first.

        The worker's row says which queues, kinds and labels it serves. A worker that is draining, stopped or
        dead gets a Conflict, a full one nothing.
        """
        stores = await self._app.stores()
        end = monotonic() + parse_duration(wait, "wait") / timedelta(seconds=1)
        while True:
            worker = await stores.workers.get(WorkerId(worker_id))
            if worker.state is not WorkerState.ACTIVE or worker.cordoned:
                standing = "cordoned" if worker.cordoned else worker.state
                raise Conflict(
                    f"worker {worker_id} is {standing} and cannot acquire jobs",
                    next_step="register another worker, or `perdure worker uncordon` it if it is cordoned",
                )
            room = min(limit, worker.capacity - worker.running)
            scope = Scope(queues=worker.queues, kinds=worker.kinds, labels=worker.labels)
            claimer = Claimer(worker_id=worker.id, process=0)
            leases = await _claimed(stores.dispatch, claimer, scope, room)
            if leases or monotonic() >= end:
                return leases
            await asyncio.sleep(min(POLL_S, max(0.0, end - monotonic())))

    async def complete(self, lease: Lease, result: object = None) -> None:
        """Settle a lease as completed, with a result that JSON can hold. Raises ClaimLost."""
        text = None if result is None else encode_plain(result, "result")
        await self._settle(lease, Completed(result=text))

    async def fail(
        self,
        lease: Lease,
        error: BaseException | str,
        *,
        retry_in: Duration | None = None,
        give_up: bool = False,
    ) -> None:
        """Settle a lease as failed: the job is retried after the specification's back-off, or discarded.

        Raises ClaimLost.
        """
        report = ErrorReport(type="Error", message=error) if isinstance(error, str) else report_of(error)
        delay = (
            Backoff().delay(lease.attempt - 1, uuid.uuid4().int % 1000 / 1000)
            if retry_in is None
            else parse_duration(retry_in, "retry_in")
        )
        await self._settle(lease, Failed(error=report, retry_in=delay, give_up=give_up))

    def queue_key(self, priority: int) -> str:
        """The specification's name of the list on which a job of this priority waits."""
        return queue_key(priority)

    async def cancel(self, job_id: UUID, *, actor: str = "program", reason: str = "") -> ActReport:
        """Cancel a job, running or not. Raises NotFound or IllegalTransition."""
        return await (await self._app.stores()).act.cancel(job_id, actor=actor, reason=reason)

    async def retry(self, job_id: UUID, *, actor: str = "program", reason: str = "") -> ActReport:
        """Run a job again that waits for a retry, was cancelled or was discarded. Raises NotFound or IllegalTransition."""
        return await (await self._app.stores()).act.retry(job_id, actor=actor, reason=reason)

    async def get(self, job_id: UUID, *, as_of: datetime | None = None) -> JobDetail:
        """One job in full, as it is or as it was at a moment. Raises NotFound and PastUnknown."""
        return await (await self._app.stores()).read.job(job_id, as_of=as_of)

    async def list(
        self,
        filter: str = "",
        *,
        limit: int = 50,
        cursor: str | None = None,
        as_of: datetime | None = None,
    ) -> JobPage:
        """The jobs that match a filter, the newest first. Raises InvalidFilter and PastUnknown."""
        read = (await self._app.stores()).read
        return await read.jobs(filter, limit=limit, cursor=cursor, as_of=as_of)

    async def _settle(self, lease: Lease, ending: Ending) -> None:
        stores = await self._app.stores()
        limits = {
            "crash_limit": self._app.settings.crash_limit,
            "interruption_limit": self._app.settings.interruption_limit,
        }
        settlement = settle(lease, ending, **limits)
        settled = await stores.jobs.settle([settlement])
        late = lease.token not in settled.accepted
        # Of a repeated call the first try may have been accepted and only its answer lost; that is no refusal.
        if late and await stores.jobs.refuse([settlement], UUID(int=0)):
            raise ClaimLost(lease.job_id)
        if settled.released:
            await stores.dispatch.announce(settled.released)


async def _claimed(dispatch: Dispatch, claimer: Claimer, scope: Scope, room: int) -> Sequence[Lease]:
    """A claim; an empty one is repeated once, for it has made the dispatch look for lanes that are new to it."""
    if room <= 0:
        return []
    return await dispatch.claim(claimer, scope, limit=room) or await dispatch.claim(
        claimer, scope, limit=room
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """A worker to be started: the application that defines its jobs, and settings that differ from the program's.

    What it and its handlers write goes to the file `log`, or to where the program itself writes. A `bound` worker ends
    at once when the thread that started it ends. `python` is the command of another interpreter than the program's, such
    as that of a virtual environment with another release.
    """

    app: str
    settings: Mapping[str, object] = field(default_factory=dict)
    log: Path | None = None
    bound: bool = False
    python: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """How a worker does: `silent_for` since its last heartbeat, `load` the share of its capacity in use."""

    worker_id: UUID
    state: WorkerState
    suspect: bool
    silent_for: timedelta
    load: float
    running: int


class SpawnedWorker:
    """A worker process that was started from this program."""

    def __init__(self, worker_id: UUID, process: asyncio.subprocess.Process) -> None:
        self.worker_id = worker_id
        self.process = process

    async def stop(self) -> int:
        """Drain it and wait for its end; gives the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


class WorkerOperations:
    """spawnWorker, startHeartbeat, getWorkerHealth, cleanup, and their companions."""

    def __init__(self, app: "Perdure") -> None:
        self._app = app

    async def spawn(self, config: WorkerConfig) -> SpawnedWorker:
        """Start a worker process and wait until it is registered. Raises Conflict when it ends before that."""
        worker_id = WorkerId(uuid.uuid4())
        settings: Settings = await self._app.connected_settings()
        values = {**plain(settings), **config.settings}
        with _opened(config.log) as log:
            process = await start_worker(
                config.app, values, worker_id, bound=config.bound, output=log, python=config.python
            )
        spawned = SpawnedWorker(worker_id, process)
        try:
            while process.returncode is None:
                if await self._knows(worker_id):
                    return spawned
                await asyncio.sleep(POLL_S)
        except BaseException:
            await spawned.stop()
            raise
        raise Conflict(
            f"the worker ended with code {process.returncode} before it was ready", next_step="read its log"
        )

    async def _knows(self, worker_id: UUID) -> bool:
        workers = await (await self._app.stores()).workers.list(alive_only=True)
        return any(worker.id == worker_id and worker.kinds for worker in workers)

    async def register(
        self,
        *,
        kinds: Sequence[str],
        queues: Sequence[str] = ("default",),
        labels: Sequence[str] = (),
        capacity: int = 1,
        name: str = "",
        type: str = "custom",
    ) -> UUID:
        """Register a worker loop of one's own; it must send a heartbeat more often than every `dead_after_s`."""
        worker_id = WorkerId(uuid.uuid4())
        host = os.uname().nodename
        workers = (await self._app.stores()).workers
        await workers.make_known(queues)
        await workers.register(
            NewWorker(
                id=worker_id,
                name=name or f"{host}-{os.getpid()}",
                host=host,
                pid=os.getpid(),
                type=type,
                queues=tuple(queues),
                kinds=tuple(kinds),
                labels=tuple(labels),
                capacity=capacity,
            )
        )
        return worker_id

    async def heartbeat(self, worker_id: UUID) -> Sequence[tuple[UUID, UUID]]:
        """Say that the worker lives; gives the leases (job id, token) that it is asked to stop.

        Raises Conflict when it has been declared dead or stopped: its leases are gone and it must register anew.
        """
        workers = (await self._app.stores()).workers
        worker = await workers.get(WorkerId(worker_id))
        beat = await workers.beat(worker.id, kinds=worker.kinds, processes=worker.processes)
        if beat is None:
            raise Conflict(
                f"worker {worker_id} is {worker.state}: its leases are gone", next_step="register anew"
            )
        return beat.cancel

    async def health(self, worker_id: UUID) -> WorkerHealth:
        """How a worker does. Raises NotFound."""
        view = await (await self._app.stores()).read.worker(worker_id)
        alive = view.worker.state in (WorkerState.ACTIVE, WorkerState.DRAINING)
        return WorkerHealth(
            worker_id=view.worker.id,
            state=view.worker.state,
            suspect=alive and view.silent_s > self._app.settings.suspect_after_s,
            silent_for=timedelta(seconds=view.silent_s),
            load=view.load,
            running=view.worker.running,
        )

    async def stop(self, worker_id: UUID) -> None:
        """Ask a worker to drain and end. Raises NotFound."""
        await (await self._app.stores()).workers.drain(WorkerId(worker_id))

    async def list(self, *, alive_only: bool = True) -> Sequence[Worker]:
        """The workers, the newest first."""
        return await (await self._app.stores()).workers.list(alive_only=alive_only)


@contextlib.contextmanager
def _opened(log: Path | None) -> Iterator[int | None]:
    if log is None:
        yield None
        return
    with log.open("ab") as file:
        yield file.fileno()
