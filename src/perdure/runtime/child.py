"""One process of a worker: an event loop that claims, runs and settles jobs, and answers to its supervisor."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import structlog

from perdure.domain.errors import PerdureError
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, Scope
from perdure.runtime.broken_application import broken
from perdure.runtime.event_loop import quick_loop
from perdure.runtime.exported import export
from perdure.runtime.following import Followed, FollowingRunner
from perdure.runtime.lines import AttemptLine
from perdure.runtime.loading import load_kinds
from perdure.runtime.loops import every
from perdure.runtime.orphans import die_with_parent
from perdure.runtime.process_wiring import ProcessStores, process_stores
from perdure.runtime.recalling import RecallingJobs
from perdure.runtime.runners import frames
from perdure.runtime.runners.endings import Kinds
from perdure.runtime.runners.loop import LoopRunner
from perdure.runtime.runners.process_main import Hello
from perdure.runtime.runners.processes import ProcessRunner
from perdure.runtime.runners.threads import ThreadRunner
from perdure.runtime.running import NotedRunner, Running
from perdure.runtime.sealing import SealedRunner, encoding
from perdure.runtime.settings import Settings
from perdure.runtime.tally import Tally
from perdure.runtime.telemetry import configure_logging
from perdure.runtime.timed_claims import TimedClaims
from perdure.runtime.traced_attempts import TracedRunner, flush
from perdure.runtime.tracing import is_traced
from perdure.services.completion import Bounds, Completion
from perdure.services.execution import Attempt, Execution, Group, Limits, Runner, Seams, StopReason

REPORT_S = 1.0
IDLE_S = 5.0
ADVICE_S = 60.0
LOST_GRACE_S = 2.0
YOUNG_MAX = 20_000
"""New objects after which garbage is looked for: a claimed batch alone makes more than the default of 700."""

log = structlog.get_logger("perdure.process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a process is told by its supervisor when it starts."""

    app: str
    settings: dict[str, Any]
    worker_id: str
    process: int
    isolated: bool
    supervisor: int
    page: int
    slots: int
    seen: dict[str, Any] | None = None


class Child:
    """The life of one process."""

    def __init__(
        self, orders: Orders, settings: Settings, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._orders = orders
        self._settings = settings
        self._reader = reader
        self._writer = writer
        self._worker_id = WorkerId(UUID(orders.worker_id))
        self._stopping: asyncio.Task[None] | None = None
        self._counts: Counter[str] = Counter()
        self._deaf = False
        self._lost = False

    async def live(self, kinds: Kinds) -> None:
        """Work until told to drain, or until recycling is due; everything claimed is settled or given back then."""
        name = f"perdure process {self._orders.process}"
        isolated = self._orders.isolated
        async with process_stores(self._settings, application_name=name, isolated=isolated) as stores:
            self._postgres = stores.postgres
            self._recalling = RecallingJobs(stores.jobs, stores.lineage)
            self._recalling.see(self._orders.seen)
            completion = Completion(
                self._recalling,
                stores.dispatch,
                self._worker_id,
                bounds=Bounds(
                    unsettled_max=self._settings.unsettled_max,
                    crash_limit=self._settings.crash_limit,
                    interruption_limit=self._settings.interruption_limit,
                ),
                on_settled=self._count,
            )
            followed = Followed(kinds, stores.following)
            groups = self._groups(kinds, partial(self._line_of, stores), followed)
            self._tally = Tally(completion)
            self._claims = TimedClaims(stores.dispatch)
            self._slots = {group: group.capacity for group in groups}
            self._execution = self._execution_of(stores, groups)
            settling = asyncio.create_task(completion.run())
            await self._tell({"ready": sorted(kinds)})
            watch = every(
                self._settings.suspect_after_s,
                partial(self._look_at_worker, stores),
                name="worker",
                asks=True,
            )
            helpers = [asyncio.create_task(task) for task in (self._obey(), self._report(), watch)]
            for task in helpers:
                task.add_done_callback(partial(_must_not_fail, self._writer))
            if followed:
                helpers.append(asyncio.create_task(every(ADVICE_S, followed.refresh, name="advice")))
            await self._execution.run()
            if self._stopping is not None:
                await self._stopping
            completion.close()
            await settling
            for task in helpers:
                task.cancel()
            for group in groups:
                await group.runner.close()
            if self._lost:
                await self._recalling.tell(f"process {self._orders.process} of worker {self._worker_id}")
        await self._tell({"bye": True, **self._figures()})
        self._writer.close()
        await self._writer.wait_closed()

    def _line_of(self, stores: ProcessStores, attempt: Attempt) -> AttemptLine:
        settings = self._settings
        encode = encoding(attempt.lease, settings.keyring, settings.max_payload_bytes)
        return AttemptLine(attempt, stores.leases, settings.schema, encode=encode)

    def _groups(self, kinds: Kinds, line_of: Any, followed: Followed) -> list[Group]:
        settings, most = self._settings, self._settings.max_payload_bytes
        hello = Hello(self._orders.app, settings.schema, most, settings.keyring.keys, settings.tracing)
        runners: dict[str, tuple[Runner, int]] = {
            "async": (LoopRunner(kinds, line_of, max_payload=most), settings.concurrency),
            "thread": (
                ThreadRunner(kinds, line_of, settings.thread_concurrency, max_payload=most),
                settings.thread_concurrency,
            ),
            "process": (
                ProcessRunner(kinds, line_of, hello),
                settings.cpu_processes,
            ),
        }
        running = Running(self._orders.page, self._orders.slots)
        groups = []
        for mode, (runner, capacity) in runners.items():
            names = tuple(sorted(name for name, kind in kinds.items() if kind.mode == mode))
            if names:
                scope = Scope(queues=settings.queues, kinds=names, labels=settings.labels)
                slots = 1 if self._orders.isolated else capacity
                opening: Runner = SealedRunner(self._traced(runner, mode), kinds, settings.keyring)
                if followed:
                    opening = FollowingRunner(opening, followed)
                groups.append(Group(scope, slots, NotedRunner(opening, running), self._limits()))
        return groups

    def _traced(self, runner: Runner, mode: str) -> Runner:
        tracing = self._settings.tracing
        return TracedRunner(runner, tracing, carries=mode == "process") if is_traced(tracing) else runner

    def _limits(self) -> Limits:
        return Limits(
            prefetch_max=0 if self._orders.isolated else self._settings.prefetch_max,
            prefetch_s=self._settings.prefetch_ms / 1000,
            poll_interval=timedelta(seconds=self._settings.poll_interval_s),
        )

    def _execution_of(self, stores: ProcessStores, groups: Sequence[Group]) -> Execution:
        claimer = Claimer(
            worker_id=self._worker_id, process=self._orders.process, isolated=self._orders.isolated
        )
        return Execution(
            Seams(dispatch=self._claims, leases=stores.leases, settler=self._tally),
            claimer,
            groups,
            limits=self._limits(),
            on_stuck=self._stuck,
            on_gone=self._lose,
        )

    def _stuck(self, attempt: Attempt) -> None:
        """A handler that cannot be stopped was left behind: nothing new starts here, and the process is replaced."""
        log.warning(
            "a handler could not be stopped and is left behind: its process takes nothing new and is replaced",
            job_id=str(attempt.lease.job_id),
            kind=attempt.lease.kind,
            next='@job(mode="process") has it killed at its time-out; an async handler must let CancelledError pass',
        )
        self._drain(self._settings.drain_timeout_s, f"a handler of {attempt.lease.kind} could not be stopped")

    def _count(self, accepted: int, refused: int) -> None:
        self._counts["settled"] += accepted
        self._counts["refused"] += refused
        if refused:
            log.warning("late results were refused", count=refused)

    def _drain(self, timeout: float, cause: str) -> None:
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._execution.drain(timeout, cause))
        else:
            self._execution.hasten(timeout)

    async def _obey(self) -> None:
        """Do what the supervisor says; its end is the end of this process."""
        while (message := await frames.read(self._reader)) is not None:
            match message:
                case {"drain": timeout}:
                    self._drain(timeout, "the worker was drained")
                case {"cancel": leases}:
                    for job_id, token in leases:
                        self._execution.cancel(UUID(job_id), UUID(token))
                case {"seen": seen}:
                    self._recalling.see(seen)
                case {"share": share}:
                    self._fill(share)
                case {"lost": True}:
                    self._lose()
        os._exit(1)

    def _fill(self, share: float) -> None:
        """Use a share of the slots, at least one of each mode, or take nothing new at 0; what runs goes on."""
        self._execution.holding = share == 0
        for group, slots in self._slots.items():
            group.capacity = max(1, round(share * slots))

    async def _look_at_worker(self, stores: ProcessStores) -> None:
        """Learn that the worker was given up for dead also when the supervisor is frozen and everything here is busy."""
        if not await stores.workers.alive(self._worker_id) and not self._lost:
            self._lose()

    def _lose(self) -> None:
        """The worker is not alive by its row: what runs here belongs to others, and nothing more can be claimed."""
        if not self._lost:
            self._lost = True
            log.warning("the worker was given up for dead by the others; this process ends")
            self._writer.write(frames.pack({"lost": True}))
        self._execution.stop_all(StopReason.LOST)
        self._drain(LOST_GRACE_S, "the worker lost its leases")

    async def _report(self) -> None:
        idle = 0.0
        while True:
            planned = monotonic() + REPORT_S
            await asyncio.sleep(REPORT_S)
            self._tally.heard_late(planned)
            await self._tell({"figures": self._figures()})
            self._tell_of_deafness()
            idle = idle + REPORT_S if self._execution.idle else 0.0
            if self._orders.isolated and idle >= IDLE_S:
                self._drain(0, "no suspect is left")
            elif self._stopping is None and (why := self._worn_out()):
                log.info("process is recycled", why=why)
                self._drain(float("inf"), "the process is recycled")

    def _tell_of_deafness(self) -> None:
        deaf, before = self._postgres.deaf, self._deaf
        self._deaf = deaf
        if deaf and not before:
            every = self._settings.poll_interval_s
            step = "connect to PostgreSQL itself, not through a pooler in transaction mode"
            log.warning("hears no notifications; finds work by polling alone", every_s=every, next=step)
        elif before and not deaf:
            log.info("hears notifications again")

    def _worn_out(self) -> str:
        """Why the process should be replaced once what it runs has ended; empty when it need not."""
        finished, megabytes = self._execution.finished, resident_mb()
        if 0 < self._settings.recycle_after_jobs <= finished:
            return f"it has run {finished} jobs"
        if 0 < self._settings.recycle_after_mb <= megabytes:
            return f"it has grown to {megabytes:.0f} MiB"
        return ""

    def _figures(self) -> dict[str, object]:
        return {
            "running": self._execution.running,
            "finished": self._execution.finished,
            "settled": self._counts["settled"],
            "refused": self._counts["refused"],
            "deaf": int(self._deaf),
            **self._tally.figures(),
            **self._claims.figures(),
        }

    async def _tell(self, message: object) -> None:
        try:
            self._writer.write(frames.pack(message))
            await self._writer.drain()
        except ConnectionError:
            os._exit(1)


def _must_not_fail(writer: asyncio.StreamWriter, task: "asyncio.Task[None]") -> None:
    """A process that no longer hears or tells is no use: it ends by its own fault, and its supervisor starts another."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the process cannot go on; it ends", exc_info=error)
        writer.write(frames.pack({"fault": f"{type(error).__name__}: {error}"}))
        os._exit(1)


def resident_mb() -> float:
    """Resident memory of this process in megabytes."""
    with suppress(
        OSError
    ):  # there is none on other systems, and no file can be opened where handlers leak them
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


async def _main(descriptor: int) -> None:
    reader, writer = await frames.connect(socket.socket(fileno=descriptor))
    message = await frames.read(reader)
    if message is None:
        return
    orders = Orders(**message)
    die_with_parent(orders.supervisor)
    settings = Settings(**orders.settings)
    configure_logging(settings, process=f"process {orders.process}")
    export(settings)
    try:
        gc.set_threshold(YOUNG_MAX)  # before the application, which may have a wish of its own
        kinds = _loaded(orders.app)
        gc.collect()
        gc.freeze()  # what was imported stays; looking through it again and again would cost an eighth of a small job
        await Child(orders, settings, reader, writer).live(kinds)
        _leave()
    except PerdureError as error:
        await _confess(writer, {"error": error.message, "next_step": error.next_step})
    except Exception as error:
        log.exception("the process cannot go on")
        await _confess(writer, {"fault": f"{type(error).__name__}: {error}"})


async def _confess(writer: asyncio.StreamWriter, message: object) -> None:
    """Tell the supervisor that this process ends by its own fault, so that its jobs are not blamed."""
    writer.write(frames.pack(message))
    await writer.drain()
    os._exit(3)


def _loaded(app: str) -> Kinds:
    """The kinds of the application. Raises PerdureError also for what its own code raises while it is imported."""
    try:
        return load_kinds(app)
    except PerdureError:
        raise
    except Exception as error:
        traceback.print_exception(error)
        raise broken(app, error) from error


def main() -> None:
    """Run one process of a worker; the descriptor of its line to the supervisor is the first argument."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(_main(int(sys.argv[1])))
    _leave()


def _leave() -> None:
    """End this process without waiting for handlers that were left behind: neither threads nor tasks that refuse to end."""
    flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
