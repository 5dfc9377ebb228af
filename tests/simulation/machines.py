"""Hosts with workers on them: the supervisors and processes of production, each as a simulated process."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from perdure.domain.alerts import Alert, Facts, Silence, Step
from perdure.domain.errors import NotFound, Unavailable
from perdure.domain.health.fleet import Fleet
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import LeaseOf, PartitionChanges
from perdure.ports.alerts import Outgoing
from perdure.runtime.child import Child, Orders
from perdure.runtime.children import ChildProcess
from perdure.runtime.dispatching import quickest_dispatch
from perdure.runtime.runners import frames
from perdure.runtime.supervisor import Worker
from perdure.stores.postgres.dispatch import PostgresDispatch
from tests.simulation.handlers import CURRENT, KINDS
from tests.simulation.loop import PROCESS, Process, ProcessEnded
from tests.simulation.network import Host, Line
from tests.support.model_ports import ModelControl, ModelJobs, ModelLeases, ModelWorkers, SameLineage

if TYPE_CHECKING:
    from tests.simulation.world import World

STARTS_WITHIN_S = 0.4


def this_process_exits(code: int) -> None:
    """What `os._exit` is in a simulation."""
    CURRENT[0].loop.kill(PROCESS.get(), code)
    raise ProcessEnded


class IdleKeeping:
    """The port `Keeping` where nothing is to be kept: the model has no partitions and no dead rows."""

    async def make_partitions(self, *, ahead_days: int) -> PartitionChanges:
        return PartitionChanges(done=())

    async def drop_partitions(self, *, older_than: object) -> PartitionChanges:
        return PartitionChanges(done=())

    async def nothing(self, **_: object) -> int:
        return 0

    sweep_edges = sweep_unique_keys = sweep_cancel_requests = sweep_progress = nothing
    sweep_shared_memory = forget_workers = nothing

    async def vacuum(self) -> Sequence[str]:
        return ()


class NoEvacuations:
    """As much of the port `Evacuations` as the leader asks: nobody is evacuated here."""

    async def overstayed(self, *, slack: object, limit: int) -> Sequence[LeaseOf]:
        return ()

    async def finish(self) -> Sequence[WorkerId]:
        return ()


class NoSamples:
    """Where samples go in a simulation: nowhere."""

    async def write(self, samples: Sequence[object], *, ages_ms: Sequence[int]) -> None:
        return None


class NoVitals:
    """The fleet as the watch over its health sees it in a simulation: nobody to look after."""

    async def living(self) -> Sequence[Any]:
        return ()

    async def recent(self) -> dict[WorkerId, Any]:
        return {}

    async def fleet(self) -> Fleet:
        return Fleet()

    async def note(self, verdicts: object) -> None:
        return None


class NoModels:
    """The trained models as the leader sees them in a simulation: none, and nobody's turn to look after them."""

    async def champion(self) -> None:
        return None

    async def body(self, model_id: int) -> bytes:
        raise NotFound("model", model_id)

    async def look(self, *, every: object) -> bool:
        return False


class NoAlerts:
    """As much of the ports `Alerts` and `Outbox` as the leader asks: all is well but Redis now and then, and there is nothing to send."""

    async def facts(self) -> Facts:
        return Facts()

    async def alerts(self) -> Sequence[Alert]:
        return ()

    async def silences(self) -> Sequence[Silence]:
        return ()

    async def keep(self, step: Step, messages: object) -> None:
        assert {alert.rule for alert in step.alerts} <= {"PerdureRedisDown"}

    async def sweep(self) -> None:
        pass

    async def due(self, limit: int) -> Sequence[Outgoing]:
        return ()


class NoRollups:
    """Charts have nobody who looks at them."""

    async def run_once(self) -> int:
        return 0


class NoAdvice:
    """No kind follows advice here."""

    async def run_once(self) -> None:
        return None


class SimulatedWorkers(ModelWorkers):
    """Remembers whose worker is whose."""

    async def register(self, worker: NewWorker) -> None:
        CURRENT[0].owners[worker.id] = PROCESS.get().host
        await super().register(worker)

    async def make_known(self, queues: Sequence[str]) -> bool:
        """Queues of the model need no rows."""
        return True


class Pipe:
    """One direction of the line between a supervisor and a process: in order, and ended with its ends."""

    transport = SimpleNamespace(get_write_buffer_size=lambda: 0)

    def __init__(self, world: "World", reader: asyncio.StreamReader, to: Process) -> None:
        self._world = world
        self._reader = reader
        self._to = to
        self._context = copy_context()
        self._context.run(PROCESS.set, to)
        self._arrives = 0.0

    def write(self, data: bytes) -> None:
        if not self._to.alive:
            raise ConnectionResetError("the other side is gone")
        self._send(self._reader.feed_data, data)

    def close(self) -> None:
        self._send(self._reader.feed_eof)

    async def drain(self) -> None:
        return None

    async def wait_closed(self) -> None:
        return None

    def _send(self, how: Callable[..., None], *data: bytes) -> None:
        self._arrives = max(self._arrives + 1e-6, self._world.loop.time() + self._world.network.delay())
        self._world.loop.call_at(self._arrives, how, *data, context=self._context)


class SimulatedProcess:
    """What a supervisor holds of a process that it has started; the system knows none of its number."""

    pid: int | None = None

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self._ended = asyncio.Event()
        process.on_end.append(self._ended.set)

    @property
    def returncode(self) -> int | None:
        return None if self._process.alive else self._process.code

    def kill(self) -> None:
        self._world.loop.kill(self._process)

    async def wait(self) -> int:
        await self._ended.wait()
        return self._process.code


class SimulatedChild(ChildProcess):
    """A process of a worker that is no process of the machine."""

    async def _begin(self, page: int, worker_id: str) -> Any:
        world, supervisor = CURRENT[0], PROCESS.get()
        host: Host = supervisor.host
        process = Process(f"{host.name}/{self.number}", host)
        host.processes.append(process)
        world.processes[worker_id, self.number] = process
        ours, theirs = world.stream(), world.stream()
        to_it, to_us = Pipe(world, theirs, process), Pipe(world, ours, supervisor)
        process.on_end.append(to_us.close)
        supervisor.on_end.append(lambda: world.loop.kill(process))
        context = copy_context()
        context.run(PROCESS.set, process)
        world.loop.create_task(child_main(world, theirs, to_us, world.kept(os.dup(page))), context=context)
        self._process = SimulatedProcess(world, process)  # type: ignore[assignment]
        return self._process, ours, to_it


async def child_main(world: "World", reader: asyncio.StreamReader, writer: Any, page: int) -> None:
    """What the main function of a process does, without the process; `page` is its descriptor of the page that it shares."""
    orders = replace(Orders(**await frames.read(reader)), page=page)
    await asyncio.sleep(world.random.random() * STARTS_WITHIN_S)
    await Child(orders, world.settings, reader, writer).live(KINDS)
    world.loop.kill(PROCESS.get(), 0)


@asynccontextmanager
async def process_stores(
    settings: Any, *, application_name: str, isolated: bool = False
) -> AsyncIterator[Any]:
    """The stores of a process that runs jobs, over three lines as in production."""
    world = CURRENT[0]
    claims, settles, reports = (Line(world.postgres) for _ in range(3))
    postgres = PostgresDispatch(
        world.database(claims),
        grace_ms=int(settings.deadline_grace_s * 1000),
        many_streams=world.many_streams,
    )
    claims.on_open = postgres.opened
    async with AsyncExitStack() as stack:
        yield SimpleNamespace(
            jobs=ModelJobs(world.store, settles),
            leases=ModelLeases(world.store, settles if isolated else reports),
            workers=ModelWorkers(world.store, settles if isolated else reports),
            postgres=postgres,
            lineage=SameLineage(),
            following=None,
            dispatch=await quickest_dispatch(settings, postgres, stack),
        )


async def supervise(world: "World") -> None:
    """One supervisor from its start to its end."""
    settings = world.settings
    beats = Line(world.postgres, timeout_s=max(1.0, settings.dead_after_s / 3))
    line = Line(world.postgres)
    duties = world.database(line)
    postgres = PostgresDispatch(duties)
    async with AsyncExitStack() as stack:
        stores: Any = SimpleNamespace(
            jobs=ModelJobs(world.store, line),
            leases=ModelLeases(world.store, line),
            workers=SimulatedWorkers(world.store, line),
            beats=SimulatedWorkers(world.store, beats),
            dispatch=await quickest_dispatch(settings, postgres, stack),
            postgres=postgres,
            keeping=IdleKeeping(),
            evacuations=NoEvacuations(),
            control=ModelControl(world.store, line),
            samples=NoSamples(),
            vitals=NoVitals(),
            models=NoModels(),
            lineage=SameLineage(),
            wishes=ModelControl(world.store, line),
            alerts=NoAlerts(),
            rollups=NoRollups(),
            follow=NoAdvice(),
            levels=NoRollups(),
            duties=duties,
            elections=world.database(beats),
            heartbeats=beats,
            suspects=postgres.suspects,
        )
        worker = Worker(settings, "app", stores, WorkerId(uuid.uuid4()))
        world.workers[PROCESS.get()] = worker
        try:
            await worker.run()
        except Unavailable:
            world.start_later(PROCESS.get().host, 1.0)  # the database is away: systemd starts it again
    world.loop.kill(PROCESS.get(), 0)
