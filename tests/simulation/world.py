"""One simulation: a seed decides the jobs, the faults and the order in which everything happens."""

import asyncio
import hashlib
import os
import random as machine_random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from perdure.domain.ids import JobIds
from perdure.domain.promises import left_over
from perdure.domain.settlement import Outcome, Settlement
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, Dispatch, Settled
from perdure.runtime.settings import Settings
from perdure.runtime.supervisor import Worker
from perdure.services.check import Check, RecordedHistory
from perdure.stores.postgres.dispatch import MANY_STREAMS, PostgresDispatch
from perdure.stores.redis.dispatch import RedisDispatch
from tests.simulation import faults
from tests.simulation.handlers import CURRENT
from tests.simulation.loop import PROCESS, Process, SimulatedLoop
from tests.simulation.machines import supervise
from tests.simulation.network import Host, Line, Network, Postgres, Redis
from tests.simulation.workload import Workload
from tests.support.model_job import Job
from tests.support.model_past import past_of
from tests.support.model_ports import ModelDatabase
from tests.support.model_store import LeaseRow, ModelStore

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH_US = int(EPOCH.timestamp()) * 1_000_000
VERDICTS_WITHIN_S = 8.0
DRAINED_WITHIN_S = 240.0
CRASH_LIMIT = 3
INTERRUPTION_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a seed: `digest` is of everything that happened, in its order."""

    seed: int
    problems: tuple[str, ...]
    digest: str
    trace: tuple[str, ...]
    virtual_s: float
    steps: int


def settings_for(*, redis: bool) -> Settings:
    """Near production's defaults; idle looks are rarer and patience is shorter, so that more seeds fit in a minute."""
    return Settings(
        database_url=SecretStr("postgresql://simulated/db"),
        redis_url=SecretStr("redis://simulated/0" if redis else ""),
        concurrency=3,
        processes=1,
        poll_interval_s=2.0,
        suspect_after_s=6.0,
        dead_after_s=15.0,
        deadline_grace_s=5.0,
        drain_timeout_s=3.0,
        crash_limit=CRASH_LIMIT,
        interruption_limit=INTERRUPTION_LIMIT,
    )


SETTINGS = {redis: settings_for(redis=redis) for redis in (False, True)}


class WatchedStore(ModelStore):
    """The model, with an eye on what the simulation knows better than any database: who really was ill."""

    world: "World"

    def declare_dead(self, silent: Any, observer: WorkerId, fresh_within: timedelta) -> list[WorkerId]:
        dead = super().declare_dead(silent, observer, fresh_within)
        for worker_id in dead:
            self.world.tell("declared dead", self.world.name_of(worker_id))
            self.world.judge_verdict(worker_id)
        return dead

    def lease(self, jobs: Any, claimer: Claimer, grace_us: int) -> list[LeaseRow]:
        rows = super().lease(jobs, claimer, grace_us)
        self.world.claimed(rows, claimer)
        return rows

    def lease_gated(self, jobs: Any, limit: int, claimer: Claimer, grace_us: int) -> list[LeaseRow]:
        rows = super().lease_gated(jobs, limit, claimer, grace_us)
        self.world.claimed(rows, claimer)
        return rows

    def end(self, settlements: Any) -> Settled:
        rows = {s.token: self.leases.get(s.job_id) for s in settlements}
        settled = super().end(settlements)
        for settlement in settlements:
            row = rows[settlement.token]
            if row is not None and settlement.token in settled.accepted:
                self.world.ended(row, settlement)
            else:
                self.world.tell("late", self.world.number_of(settlement.job_id), settlement.outcome.value)
        return settled

    def make_due(self, limit: int) -> Any:
        places = super().make_due(limit)
        if places:
            self.world.tell("staged", len(places))
        return places

    def _ready(self, job: Job, since: int) -> None:
        super()._ready(job, since)
        self.world.tell("available", self.world.number_of(job.new.id))


class World:
    """Everything of one simulation."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.redis_used = self.random.random() < 0.5
        self.loop = SimulatedLoop(Random(self.random.getrandbits(64)))
        self.network = Network(self.loop, Random(self.random.getrandbits(64)))
        tokens = Random(self.random.getrandbits(64))
        self.store = WatchedStore(self.database_us, lambda: UUID(int=tokens.getrandbits(128), version=4))
        self.store.world = self
        self.postgres = Postgres(self.network, self.store)
        self.redis = Redis(self.network)
        self.settings = SETTINGS[self.redis_used]
        self.many_streams = MANY_STREAMS if seed % 2 else 0
        self.hosts = [Host(f"h{n}") for n in range(self.random.choice((1, 2, 2, 3)))]
        self.workers: dict[Process, Worker] = {}
        self.processes: dict[tuple[str, int], Process] = {}
        self.running: dict[Process, list[int]] = defaultdict(list)
        self.workload = Workload(self)
        self.problems: list[str] = []
        self.crash_after_claim = False
        self._ill: dict[Host, float] = dict.fromkeys(self.hosts, -1000000000.0)
        self._frozen: dict[Process, float] = {}
        self.owners: dict[UUID, Host] = {}
        self._descriptors: list[int] = []
        self._started: set[UUID] = set()
        self._trace: list[str] | None = [] if keep_trace else None
        self._digest = hashlib.blake2b(digest_size=8)
        self._faults_end = 0.0
        self._looked_at = -1

    # ---- time

    def database_us(self) -> int:
        return EPOCH_US + int(self.loop.time() * 1e6)

    # ---- the story

    def tell(self, *words: object) -> None:
        """Note something that happened."""
        line = f"{self.loop.time():9.4f} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        if self._trace is not None:
            self._trace.append(line)

    def number_of(self, job_id: UUID) -> str:
        return f"job {next((n for n, plan in enumerate(self.workload.plans) if plan.new.id == job_id), '?')}"

    def name_of(self, worker_id: UUID) -> str:
        host = self.owners.get(worker_id)
        return f"worker {str(worker_id)[:4]} of {host.name if host else '?'}"

    def problem(self, words: str) -> None:
        self.tell("PROBLEM", words)
        self.problems.append(f"at {self.loop.time():.3f} s: {words}")

    # ---- what processes do

    def kept(self, descriptor: int) -> int:
        """A descriptor that is closed at the end."""
        self._descriptors.append(descriptor)
        return descriptor

    def stream(self) -> asyncio.StreamReader:
        loop: Any = self.loop
        return asyncio.StreamReader(loop=loop)

    def start(self, process: Process, main: Coroutine[Any, Any, None]) -> None:
        context = copy_context()
        context.run(PROCESS.set, process)
        self.loop.create_task(self._watched(process, main), context=context)

    async def _watched(self, process: Process, main: Coroutine[Any, Any, None]) -> None:
        try:
            await main
        except Exception as error:  # noqa: BLE001 - whatever ends a program of the simulation is a finding
            if not self.loop.is_closed():
                self.problem(f"unforeseen: {process.name} ended with {error!r}")

    def start_supervisor(self, host: Host) -> None:
        if any(process.alive and "/" not in process.name for process in host.processes):
            return
        process = Process(host.name, host)
        host.processes.append(process)
        self.tell("supervisor starts on", host.name)
        self.start(process, supervise(self))

    def start_later(self, host: Host, seconds: float) -> None:
        self.loop.call_later(seconds, self.start_supervisor, host, context=self.network.servers)

    def database(self, line: Line) -> ModelDatabase:
        return ModelDatabase(self.store, line, self.postgres.notify)

    async def dispatch(self, postgres: PostgresDispatch) -> Dispatch:
        if not self.redis_used:
            return postgres
        return await RedisDispatch.open("redis://simulated/0", postgres, schema="perdure")

    def drain(self, host: Host) -> None:
        """Ask the worker to stop; another starts when it has ended."""
        for process, worker in self.workers.items():
            if process.host is host and process.alive:
                self.in_process(process, worker.stop)
                process.on_end.append(lambda: self.start_later(host, 0.5))

    def in_process(self, process: Process, what: Callable[[], None]) -> None:
        context = copy_context()
        context.run(PROCESS.set, process)
        self.loop.call_soon(what, context=context)

    def hold(self, process: Process, seconds: float) -> None:
        """A handler holds the interpreter for so long."""
        self._frozen[process] = self.loop.time() + seconds
        self.loop.pause(process)
        self.loop.call_later(seconds, self._release, process, context=self.network.servers)

    def _release(self, process: Process) -> None:
        if self._frozen.get(process, 0.0) <= self.loop.time() + 1e-9:
            self.loop.resume(process)

    def freeze(self, host: Host, which: Callable[[Process], bool]) -> Callable[[], None]:
        frozen = [process for process in host.processes if process.alive and which(process)]
        for process in frozen:
            self._frozen[process] = 1e9
            self.loop.pause(process)
        self.disturbed(host)

        def mend() -> None:
            self.disturbed(host)
            for process in frozen:
                self._frozen[process] = self.loop.time()
                self.loop.resume(process)

        return mend

    # ---- who really was ill

    def disturbed(self, host: Host) -> None:
        """Something of this host is not as it should be at this moment."""
        self._ill[host] = self.loop.time()

    def all_disturbed(self) -> None:
        for host in self.hosts:
            self.disturbed(host)

    def ill_since(self, host: Host, since: float) -> bool:
        """Whether the host was frozen, cut off or dead at some moment since then, whatever the servers did."""
        ill = host.cut_from_postgres or self.network.weather.request_lost > 0
        unwell = any(not one.alive or one.paused for one in host.processes)
        return ill or unwell or self._ill[host] >= since

    def judge_verdict(self, worker_id: UUID) -> None:
        """A worker that was well all the time must not be declared dead, however long the servers were away."""
        host = self.owners.get(worker_id)
        since = self.loop.time() - self.settings.dead_after_s - 1.0
        if host is not None and not self.ill_since(host, since):
            self.problem(f"{self.name_of(worker_id)} was declared dead though nothing ailed it")

    def claimed(self, rows: list[LeaseRow], claimer: Claimer) -> None:
        for row in rows:
            process = self.processes.get((str(claimer.worker_id), claimer.process))
            self.tell(
                "claimed", self.number_of(row.lease.job_id), "attempt", row.lease.attempt,
                "by", process.name if process else "?",
            )  # fmt: skip
        if rows and self.crash_after_claim and self.postgres.up:
            self.crash_after_claim = False
            self.loop.call_later(0.001, self._crash_now, context=self.network.servers)

    def _crash_now(self) -> None:
        self.tell("PostgreSQL crashes, claims lost:", self.postgres.crash(unflushed_s=0.2))
        self.loop.call_later(0.5, self.postgres.restart, context=self.network.servers)

    def note_start(self, job_id: UUID, process: Process) -> None:
        """A handler starts under the lease that its process holds."""
        row = next((row for known, row in self.store.leases.items() if known == job_id), None)
        if (
            row is not None
            and self.processes.get((str(row.claimer.worker_id), row.claimer.process)) is process
        ):
            self._started.add(row.lease.token)

    def ended(self, row: LeaseRow, settlement: Settlement) -> None:
        """A lease ended otherwise than by its holder: its holder must have been ill."""
        claimer, lease = row.claimer, row.lease
        self.tell(
            "settled", self.number_of(lease.job_id), settlement.outcome.value, "->", settlement.state.value,
            settlement.cause,
        )  # fmt: skip
        if "the answer to its claim was lost" in settlement.cause and lease.token in self._started:
            self.problem(
                f"{self.number_of(lease.job_id)} was started and then given back as if it had never been"
            )
        process = self.processes.get((str(claimer.worker_id), claimer.process))
        hung = settlement.error is not None and settlement.error.type == "perdure.Hung"
        if settlement.outcome is not Outcome.CRASHED and not hung:
            return
        if process is not None and process.alive and not self._ailed(process, row):
            self.problem(
                f"{self.number_of(lease.job_id)} was taken from {process.name}, which nothing ailed: {settlement.cause}"
            )

    def _ailed(self, process: Process, row: LeaseRow) -> bool:
        claimed = (row.lease.claimed_at - EPOCH).total_seconds()
        return (
            process.paused
            or self._frozen.get(process, -1.0) >= claimed
            or self.ill_since(process.host, claimed - 1.0)
        )

    # ---- the whole

    def run(self) -> Result:
        """Play the seed to its end and judge it."""
        CURRENT.insert(0, self)
        state = machine_random.getstate()
        machine_random.seed(self.seed)
        try:
            self._play()
            self._judge()
        finally:
            CURRENT.pop(0)
            self.loop.close()
            for descriptor in self._descriptors:
                os.close(descriptor)
            machine_random.setstate(state)
        self.tell("end", *self.problems)
        return Result(
            self.seed, tuple(self.problems), self._digest.hexdigest(), tuple(self._trace or ()),
            self.loop.time(), self.loop.steps,
        )  # fmt: skip

    def _play(self) -> None:
        ids = JobIds(lambda: self.database_us() * 1000, self.random.randbytes)
        self.workload.draw(self.random, ids)
        for host in self.hosts:
            self.loop.call_later(
                self.random.random(), self.start_supervisor, host, context=self.network.servers
            )
        self.workload.begin(self.random)
        self.network.weather.ring_lost = self.random.choice(
            (0.0, 0.0, 0.3, 1.0)
        )  # all: a pooler is in between
        for fault in faults.draw(self.random, redis=self.redis_used):
            self.loop.call_at(fault.at, self._begin, fault, context=self.network.servers)
            # After a long one the world goes on until whoever would judge wrongly has judged.
            after = VERDICTS_WITHIN_S if fault.lasts > self.settings.dead_after_s else 1.0
            self._faults_end = max(self._faults_end, fault.at + fault.lasts + after)
        self.loop.call_at(self._faults_end, self._heal, context=self.network.servers)
        last = self._faults_end + DRAINED_WITHIN_S
        try:
            self.loop.run_until(lambda: self._over() or self.loop.time() > last)
        except Exception as error:  # noqa: BLE001 - a seed that ends so is a finding like any other
            self.problem(f"unforeseen: {error!r}")

    def _heal(self) -> None:
        """The faults are over: every host has a worker again."""
        for host in self.hosts:
            self.start_supervisor(host)

    def _begin(self, fault: faults.Fault) -> None:
        self.tell("FAULT", fault.kind, f"for {fault.lasts} s, victim {fault.which}")
        mend = faults.begin(self, fault)

        def end() -> None:
            self.tell("mended:", fault.kind)
            mend()

        self.loop.call_later(fault.lasts, end, context=self.network.servers)

    def _over(self) -> bool:
        """Whether the faults are over, everything was brought, and nothing is left that can go on."""
        if self.loop.time() < self._faults_end or self.workload.waiting:
            return False
        if self.store.leases or self.store.xid == self._looked_at:
            return False
        self._looked_at = self.store.xid
        return not left_over(past_of(self.store))

    def _judge(self) -> None:
        check = Check(RecordedHistory(lambda: past_of(self.store)))
        coroutine = check.run(crash_limit=CRASH_LIMIT, interruption_limit=INTERRUPTION_LIMIT, drained=True)
        try:
            coroutine.send(None)
        except StopIteration as answer:
            report = answer.value
            if not report.ok:
                self.problems += report.words().splitlines()
        for n, plan in enumerate(self.workload.plans):
            if plan.acknowledged and plan.new.id not in self.store.jobs:
                self.problem(f"job {n} was acknowledged and is not there")
            runs = self.store.jobs[plan.new.id].run if plan.new.id in self.store.jobs else 1
            if plan.deaths > runs * ((plan.new.shape.crash_limit or CRASH_LIMIT) + 1):
                self.problem(f"job {n} ended its process {plan.deaths} times while it ran alone")
        if self.workload.waiting:
            self.problem("somebody could not bring all that there was to bring")
        self.problems += [f"unforeseen: {error}" for error in self.loop.errors]
