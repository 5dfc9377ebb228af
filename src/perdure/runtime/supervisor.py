"""A worker: one supervisor that beats, watches its processes and, when elected, runs the duties of the system.

The supervisor runs no handlers, so that nothing a handler does can keep it from beating.
"""

import asyncio
import os
import signal
import socket
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic

import structlog

from perdure.domain.errors import PerdureError, Unavailable
from perdure.domain.liveness import Contact, Sight
from perdure.domain.worker import Beat, NewWorker, WorkerId, WorkerState
from perdure.ports import Scope
from perdure.runtime.children import ChildProcess
from perdure.runtime.duties import Duties
from perdure.runtime.giving_back import GivingBack
from perdure.runtime.known_queues import KnownQueues
from perdure.runtime.loops import every, set_within
from perdure.runtime.plain_settings import plain
from perdure.runtime.process_wiring import SupervisorStores, supervisor_stores
from perdure.runtime.remembering import guard_of_worker, look, seen_by
from perdure.runtime.sampling import Sampling
from perdure.runtime.settings import Settings
from perdure.runtime.telemetry import configure_logging
from perdure.runtime.withdrawing import Withdrawing
from perdure.stores.postgres.connections import Connection, connect
from perdure.stores.postgres.control import control_channel
from perdure.stores.postgres.migrations import require_current
from perdure.version import __version__

KILL_GRACE_S = 5.0
LOST_GRACE_S = 3.0
SHORT_LIFE_S = 2.0
LONGEST_PAUSE_S = 5.0
LONGEST_PAUSE_AFTER_HANGING_S = 60.0

log = structlog.get_logger("perdure.worker")


class Worker:
    """The life of one worker."""

    def __init__(self, settings: Settings, app: str, stores: SupervisorStores, worker_id: WorkerId) -> None:
        self._settings = settings
        self._app = app
        self._stores = stores
        self._id = worker_id
        self._children: dict[int, ChildProcess] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._number = 0
        self._kinds: tuple[str, ...] = ()
        self._asked = monotonic()
        self._contact = Contact(
            monotonic(),
            broken_after=timedelta(seconds=settings.suspect_after_s),
            interval=timedelta(seconds=settings.heartbeat_interval_s),
        )
        self._stopping = asyncio.Event()
        self._renewal = asyncio.Lock()
        self._next_id: WorkerId | None = None
        self._failed: tuple[str, str] | None = None
        self._signals = 0
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._withdrawing = Withdrawing(self._children, self._stopping, name=self._name)
        self._giving_back = GivingBack(stores, self._stopping, settings)
        self._sampling = Sampling(stores.samples, recycled_at_mb=settings.recycle_after_mb)
        self._guard = guard_of_worker(settings, stores.lineage, worker_id)

    async def run(self) -> int:
        """Work until told to stop; the exit code says how it went."""
        self._stores.heartbeats.on_open = self._listen
        await self._guard.look()
        await self._register(self._id)
        for _ in range(self._settings.processes):
            self._spawn(isolated=False)
        loops = [
            asyncio.create_task(every(interval, duty, name=name, asks=name == "heartbeat"))
            for interval, duty, name in (
                (self._settings.heartbeat_interval_s, self._beat, "heartbeat"),
                (2.0, KnownQueues(self._stores.workers, self._settings.queues).make, "queues"),
                (1.0, self._watch_suspects, "suspects"),
                (1.0, self._watch_silent, "silence"),
                (self._settings.sample_interval_s, self._sample, "samples"),
            )
        ]
        duties = Duties(self._settings, self._stores, holder=self._id, sight=self._sight)
        loops.append(asyncio.create_task(duties.run()))
        await self._stopping.wait()
        await self._drain()
        await duties.resign()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._say_goodbye()
        if self._failed is not None:
            raise PerdureError(self._failed[0], next_step=self._failed[1])
        return 0

    def stop(self) -> None:
        """Drain and end; said twice, end at once."""
        self._signals += 1
        if self._signals > 1:
            log.warning("stopping at once; what runs is given back")
            for child in self._children.values():
                child.kill()
        else:
            log.info(
                "draining", running=sum(child.figures.get("running", 0) for child in self._children.values())
            )
        self._stopping.set()

    async def _register(self, worker_id: WorkerId) -> None:
        settings = self._settings
        await self._stores.beats.register(
            NewWorker(
                id=worker_id,
                name=self._name,
                host=socket.gethostname(),
                pid=os.getpid(),
                queues=settings.queues,
                kinds=self._kinds,
                labels=settings.labels,
                capacity=settings.processes * settings.concurrency,
                processes=settings.processes,
                version=__version__,
            )
        )
        structlog.contextvars.bind_contextvars(worker=str(worker_id)[:8])
        log.info(
            "worker started", worker_id=str(worker_id), queues=settings.queues, processes=settings.processes
        )

    def _spawn(self, *, isolated: bool, pause: float = 0.0) -> None:
        self._number += 1
        settings = self._settings
        slots = 2 * (settings.concurrency + settings.thread_concurrency + settings.cpu_processes)
        child = ChildProcess(self._number, isolated=isolated, slots=slots)
        self._children[child.number] = child
        task = asyncio.create_task(self._live(child, pause))
        self._lives.add(task)
        task.add_done_callback(self._lives.discard)

    async def _live(self, child: ChildProcess, pause: float) -> None:
        """One process from its start until all that it held is settled, and the start of the next."""
        worker_id = self._id
        if await set_within(self._stopping, pause) or worker_id != self._id:
            # Who begins anew starts as many processes as there were, this one among them.
            del self._children[child.number]
            return
        orders: dict[str, object] = {"app": self._app, "worker_id": str(worker_id)}
        orders |= {"settings": plain(self._settings), **seen_by(self._guard)}
        child.started = monotonic()
        try:
            how = await child.run(orders, self._hear)
        except Exception as error:
            log.exception("process could not be started or understood", process=child.number)
            child.kill()
            child.fault = how = f"could not be started or understood: {error}"
        del self._children[child.number]
        self._sampling.ended(child)
        if child.error is not None and not child.kinds:
            if not self._kinds:  # no process of this worker was ever ready: there is nothing to keep alive
                self._failed = child.error
                self._stopping.set()
                return
            log.error("a process cannot start; trying again", process=child.number, why=child.error[0])
        if not (self._stopping.is_set() or worker_id != self._id or child.isolated or child.lost):
            short = monotonic() - child.started < SHORT_LIFE_S and not child.said_goodbye
            longest = LONGEST_PAUSE_AFTER_HANGING_S if child.hung else LONGEST_PAUSE_S
            self._spawn(isolated=False, pause=min(longest, pause * 2 or 0.2) if short or child.hung else 0.0)
        if not child.said_goodbye:
            log.warning("process ended", process=child.number, how=how)
        await self._giving_back.run(worker_id, child, how)

    def _hear(self, child: ChildProcess) -> None:
        """One of the processes is ready, or has learned that this worker was given up for dead."""
        self._withdrawing.welcome(child)
        if child.lost:
            self._beat_soon()
        elif child.kinds != self._kinds:
            self._kinds = child.kinds
            self._beat_soon()
            log.info("process ready", process=child.number, kinds=len(child.kinds))

    async def _beat(self) -> None:
        await look(self._guard, self._children.values())
        worker_id, children = self._id, self._children.values()
        deaf = sum(int(child.figures.get("deaf", 0)) for child in children)
        asked = monotonic()
        beat = await self._stores.beats.beat(worker_id, kinds=self._kinds, processes=len(children), deaf=deaf)
        if worker_id != self._id:
            return  # another beat heard the verdict first
        now = monotonic()
        late_s = max(0.0, asked - self._asked - 1.2 * self._settings.heartbeat_interval_s)
        self._asked = asked
        self._sampling.beat(late_s=late_s, took_s=now - asked)
        self._contact.beat(now, timedelta(0) if beat is None else beat.gap, slow_s=late_s + now - asked)
        if beat is None:
            await self._begin_anew(worker_id)
        else:
            self._withdrawing.hear(beat)
            self._obey(beat)

    async def _sample(self) -> None:
        await self._sampling.run_once(self._id, self._children.values())

    def _obey(self, beat: Beat) -> None:
        if beat.state is WorkerState.DRAINING and not self._stopping.is_set():
            log.info("asked to drain")
            self.stop()
        elif beat.cancel:
            leases = [(str(job_id), str(token)) for job_id, token in beat.cancel]
            for child in self._children.values():
                if child.hears:
                    child.tell({"cancel": leases})

    async def _begin_anew(self, gone: WorkerId) -> None:
        """The others gave this worker up for dead: its leases are lost. Start again under a new id.

        The new id counts once its row is there, so that a database that goes away in between leaves it to the next beat.
        """
        async with self._renewal:
            if gone != self._id:
                return  # another beat was faster
            # One id for all tries: the row of a try whose answer was lost must not stay behind as another worker.
            worker_id = self._next_id = self._next_id or WorkerId(uuid.uuid4())
            await self._register(worker_id)
            self._id, self._next_id = worker_id, None
        log.error("declared dead by the others; all leases are lost, starting anew")
        lost = list(self._children.values())
        for child in lost:
            child.tell({"lost": True})
        replacing = asyncio.create_task(self._replace(lost))
        self._lives.add(replacing)
        replacing.add_done_callback(self._lives.discard)

    async def _replace(self, lost: Sequence[ChildProcess]) -> None:
        """End processes that may still act, then start those that are missing; heartbeats go on meanwhile, and may bring the next verdict."""
        await asyncio.sleep(LOST_GRACE_S)
        for child in lost:
            child.kill()
        there = sum(not child.isolated for child in self._children.values() if child not in lost)
        for _ in range(self._settings.processes - there):
            self._spawn(isolated=False)

    def _sight(self) -> Sight:
        return self._contact.sight(self._id, monotonic())

    async def _watch_suspects(self) -> None:
        """Keep one isolated process while suspects wait to be run alone."""
        if (
            self._stopping.is_set()
            or self._withdrawing.cordoned
            or any(child.isolated for child in self._children.values())
        ):
            return
        scope = Scope(queues=self._settings.queues, kinds=self._kinds, labels=self._settings.labels)
        if self._kinds and await self._stores.suspects(scope):
            self._spawn(isolated=True)

    async def _watch_silent(self) -> None:
        """Replace a process that says nothing and holds nothing.

        Its loop is blocked or it was frozen, and its jobs have been taken from it at their deadlines. Silence is
        counted in looks, about a second each, so that a supervisor that was stopped itself accuses nobody.
        """
        for child in list(self._children.values()):
            self._watch_start(child)
            child.silent_looks += bool(child.kinds)
            if child.silent_looks > self._settings.suspect_after_s:
                held = await self._stores.leases.of_process(self._id, child.number, limit=1)
                if not held and child.silent_looks:
                    log.warning("process is silent and is replaced", process=child.number)
                    child.kill()

    def _watch_start(self, child: ChildProcess) -> None:
        """Replace a process that does not become ready: the application hangs while it is imported."""
        child.looks_at_start += child.alive and not child.kinds
        if child.looks_at_start > self._settings.start_timeout_s and not child.hung:
            child.hung = True
            log.error(
                "process does not become ready and is replaced: the application hangs while it is imported",
                process=child.number,
                app=self._app,
                after_s=self._settings.start_timeout_s,
            )
            child.kill()

    async def _listen(self, connection: Connection) -> None:
        """Have a new connection tell at once of requests to cancel and drain; heartbeats find them anyway."""
        channel = control_channel(self._settings.schema)
        await connection.add_listener(channel, lambda *message: self._heard(str(message[3])))

    def _heard(self, payload: str) -> None:
        if payload == str(self._id):
            self._beat_soon()

    def _beat_soon(self) -> None:
        """Beat out of turn, to tell or to be told something at once."""
        task = asyncio.create_task(self._beat_again())
        self._lives.add(task)
        task.add_done_callback(self._lives.discard)

    async def _beat_again(self) -> None:
        with suppress(Unavailable):
            await self._beat()

    async def _drain(self) -> None:
        """Let the processes finish what they run, then end those that do not."""
        patience_s = self._withdrawing.patience_s(self._settings.drain_timeout_s)
        for child in self._children.values():
            child.tell({"drain": patience_s})
        bound = patience_s + KILL_GRACE_S
        if self._lives:
            _, left = await asyncio.wait(self._lives, timeout=bound)
            if left:
                for child in self._children.values():
                    child.kill()
                await asyncio.wait(left, timeout=KILL_GRACE_S)

    async def _say_goodbye(self) -> None:
        try:
            await self._stores.beats.stop(self._id, cause="stopped")
        except Unavailable:
            log.warning("could not say goodbye; the others will notice by the missing heartbeats")
        log.info("worker stopped")


async def run_worker(settings: Settings, app: str, *, worker_id: WorkerId | None = None) -> int:
    """Run a worker for the jobs of `app` until SIGTERM, Ctrl-C or the end of its terminal, which drain it; a second one ends it at once.

    Raises DatabaseUnavailable, RollbackDetected, SchemaMissing, SchemaOutdated or SchemaTooNew before anything is started.
    """
    configure_logging(settings)
    connection = await connect(settings.database_url.get_secret_value(), application_name="perdure worker")
    try:
        await require_current(connection, schema=settings.schema)
    finally:
        await connection.close()
    async with supervisor_stores(settings) as stores:
        worker = Worker(settings, app, stores, worker_id or WorkerId(uuid.uuid4()))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, worker.stop)
        return await worker.run()
