"""What there is to do in a simulation: jobs with a plan for each start, producers that repeat, operators that interfere."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

from perdure.domain.errors import Conflict, InvalidInput, Unavailable
from perdure.domain.ids import JobIds
from perdure.domain.job import LIVE, Dependency, JobId, JobState, NewJob, OnParentFailure, UniqueRule
from perdure.domain.retry import Cancel, Snooze
from perdure.ports import By
from perdure.services.enqueue import Enqueue
from perdure.stores.postgres.dispatch import PostgresDispatch
from tests.simulation.handlers import KINDS, work
from tests.simulation.loop import PROCESS, Process
from tests.simulation.network import Host, Line
from tests.support.model_ports import ModelControl, ModelJobs, ModelPlainJobs
from tests.support.new_jobs import job_of

if TYPE_CHECKING:
    from tests.simulation.world import World

LIMITS = {"c1": 1, "c2": 2}
UNTIL_START = LIVE - {JobState.RUNNING}
OPERATOR = By(actor="operator", reason="a simulation")
NEVER_ENDS = {"die", "hang"}


class Boom(Exception):
    """What a handler raises that fails."""


@dataclass(slots=True)
class Plan:
    """One job, when it is enqueued, and what its handler does at each start; the last step is repeated."""

    new: NewJob
    at: float
    announced: bool
    steps: list[tuple[str, float]]
    starts: int = 0
    deaths: int = 0
    """How often it has ended its process while nothing else ran in it."""
    done: int = 0
    acknowledged: bool = False
    refused: bool = False


@dataclass(slots=True)
class Workload:
    """All plans of one simulation."""

    world: "World"
    plans: list[Plan] = field(default_factory=list)
    waiting: int = 0
    """How many producers and operators are not through yet."""

    # ---- drawing

    def draw(self, random: Random, ids: JobIds) -> None:
        """Draw the jobs, and start who brings them."""
        count = random.choice((3, 6, 10, 16))
        poison = random.random() < 0.3
        alike = random.random() < 0.5  # all in one stream of claims
        within_s = random.choice((3, 10))
        keyed, unique, linked = (random.random() < 0.5 for _ in range(3))
        for n in range(count):
            parents = self._parents(random) if linked else ()
            key = random.choice((None, "c1", "c2")) if keyed else None
            new = job_of(
                id=ids(),
                queue="default",
                kind=work.name if alike else random.choice(list(KINDS)),
                args=f'{{"n":{n}}}',
                priority=3 if alike else random.randint(1, 5),
                max_attempts=random.choice((1, 2, 4)),
                timeout=random.choice((None, timedelta(seconds=6))),
                delay=timedelta(seconds=random.random() * 8) if random.random() < 0.2 else None,
                depends_on=parents,
                unique=self._rule(random) if unique and random.random() < 0.3 else None,
                concurrency_key=key,
                concurrency_limit=LIMITS.get(key or "", 1),
                crash_limit=random.choice((None, 1, 2)),
            )
            steps = [("die", 0.1)] if poison and n == 0 else self._steps(random, new)
            self.plans.append(Plan(new, random.random() * within_s, random.random() < 0.7, steps))

    def _parents(self, random: Random) -> tuple[Dependency, ...]:
        known = [plan.new.id for plan in self.plans[-4:]]
        chosen = [job_id for job_id in known if random.random() < 0.25]
        policies = list(OnParentFailure)
        return tuple(Dependency(parent_id=job_id, on_failure=random.choice(policies)) for job_id in chosen)

    @staticmethod
    def _rule(random: Random) -> UniqueRule:
        return UniqueRule(key=random.choice(("u1", "u2")), states=random.choice((LIVE, UNTIL_START)))

    @staticmethod
    def _steps(random: Random, new: NewJob) -> list[tuple[str, float]]:
        steps = []
        while random.random() < 0.35:
            steps.append((random.choice(("fail", "fail", "snooze", "busy", "die")), random.random() * 3))
        if new.shape.timeout is not None and random.random() < 0.1:
            steps.append(("hang", 0.0))
        last = "cancel" if random.random() < 0.05 else "ok"
        return [
            *steps,
            (
                last,
                random.choice(
                    (0.0, 0.0, 0.01, 0.1, 0.2, 1.0, 2.0, 20.0 if new.shape.timeout is None else 4.0)
                ),
            ),
        ]

    # ---- handlers

    async def perform(self, n: int) -> None:
        """What the handler of job `n` does this time."""
        plan, world, process = self.plans[n], self.world, PROCESS.get()
        what, how_long = plan.steps[min(plan.starts, len(plan.steps) - 1)]
        plan.starts += 1
        world.running[process].append(n)
        world.tell("start", n, process.name, what)
        world.note_start(plan.new.id, process)
        try:
            await self._do(what, how_long, plan, process)
        finally:
            if n in world.running[process]:
                world.running[process].remove(n)
        plan.done += 1
        world.tell("done", n, process.name)

    async def _do(self, what: str, how_long: float, plan: Plan, process: Process) -> None:
        world = self.world
        if what == "busy":  # it holds the interpreter: nothing else of this process runs
            world.hold(process, 3 * how_long)
            await asyncio.sleep(0)
            return
        if what == "hang":
            await asyncio.Event().wait()
        await asyncio.sleep(how_long)
        match what:
            case "fail":
                raise Boom
            case "snooze":
                raise Snooze("2s")
            case "cancel":
                raise Cancel("enough")
            case "die":
                plan.deaths += len(world.running[process]) == 1
                world.tell("died of", plan.new.args, process.name)
                world.loop.kill(process, -11)
                await asyncio.Event().wait()

    # ---- producers and operators

    def begin(self, random: Random) -> None:
        """Start two producers and an operator, each on a host of its own."""
        for number, plans in enumerate((self.plans[::2], self.plans[1::2])):
            process = Process(f"producer {number}", Host(f"producer {number}"))
            self.waiting += 1
            self.world.start(process, self._produce(sorted(plans, key=lambda plan: plan.at)))
        wishes = sorted(
            (random.random() * 15, random.choice(("cancel", "retry")), random.choice(self.plans).new.id)
            for _ in range(random.choice((0, 0, 1, 3)))
        )
        self.waiting += 1
        self.world.start(Process("operator", Host("operator")), self._operate(wishes))

    async def _produce(self, plans: list[Plan]) -> None:
        world = self.world
        line = Line(world.postgres)
        jobs = ModelJobs(world.store, line)
        dispatch = await world.dispatch(PostgresDispatch(world.database(line)))
        enqueue = Enqueue(jobs, ModelPlainJobs(world.store, line), dispatch)
        async with asyncio.TaskGroup() as group:
            for plan in plans:
                await asyncio.sleep(max(0.0, plan.at - world.loop.time()))
                group.create_task(self._bring(plan, enqueue if plan.announced else jobs))
        await enqueue.close()
        self.waiting -= 1

    async def _bring(self, plan: Plan, to: Enqueue | ModelJobs) -> None:
        """Enqueue, and repeat it with the same id while no answer comes."""
        while any(not self._settled(edge.parent_id) for edge in plan.new.depends_on):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.5)
        while True:
            try:
                if isinstance(to, Enqueue):
                    await to.one(plan.new, on_duplicate="raise")
                else:  # as in the caller's own transaction: no bell is rung
                    await to.enqueue([plan.new])
            except Unavailable:
                await asyncio.sleep(0.5)
            except (Conflict, InvalidInput) as error:
                plan.refused = True
                self.world.tell("refused", plan.new.args, type(error).__name__)
                return
            else:
                plan.acknowledged = True
                self.world.tell("enqueued", plan.new.args)
                return

    def _settled(self, job_id: JobId) -> bool:
        plan = next(plan for plan in self.plans if plan.new.id == job_id)
        return plan.acknowledged or plan.refused

    async def _operate(self, wishes: Sequence[tuple[float, str, UUID]]) -> None:
        control = ModelControl(self.world.store, Line(self.world.postgres))
        for at, what, job_id in wishes:
            await asyncio.sleep(max(0.0, at - self.world.loop.time()))
            try:
                (acted,) = await getattr(control, what)([job_id], OPERATOR)
                self.world.tell(what, str(job_id), acted.outcome.value)
            except Unavailable:
                self.world.tell(what, str(job_id), "unknown")
        self.waiting -= 1
