"""Writers that make histories at random: several at once, every step a transaction of the product's own."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from perdure.domain.errors import PerdureError
from perdure.domain.job import Dependency, JobId, NewJob, OnParentFailure
from perdure.domain.lease import Lease
from perdure.domain.settlement import Cancelled, Completed, Crashed, Ending, Interrupted, Snoozed, settle
from perdure.domain.worker import WorkerId
from perdure.ports import By, Claimer, Scope
from perdure.stores.postgres.dispatch import PostgresDispatch
from tests.support.attempts import settle_each
from tests.support.new_jobs import job_of
from tests.support.system import System, failure, new_id

OPERATOR = By(actor="test", reason="a random history")
SCOPE = Scope(queues=("q1", "q2"), kinds=("a", "b"))
WRITERS = 4


@dataclass
class Writers:
    """Several writers at once, each with its own dice; every step is a transaction of the product's own."""

    system: System
    dice: random.Random
    all: list[UUID] = field(default_factory=list)
    held: list[Lease] = field(default_factory=list)
    workers: list[WorkerId] = field(default_factory=list)

    @classmethod
    async def of(cls, system: System, seed: int) -> "Writers":
        """Writers with two workers to write as."""
        writers = cls(system, random.Random(seed))
        writers.workers = [
            await system.worker(f"w{n}", kinds=SCOPE.kinds, queues=SCOPE.queues) for n in range(2)
        ]
        return writers

    async def together(self, steps: int) -> None:
        """All write at once, each that many steps."""
        await asyncio.gather(*(self.write(steps) for _ in range(WRITERS)))

    async def write(self, steps: int) -> None:
        for _ in range(steps):
            # Two operators may want the same thing; what is refused changes nothing.
            with contextlib.suppress(PerdureError):
                await self.dice.choices(
                    [self.enqueue, self.claim, self.settle, self.leader, self.operator, self.fleet],
                    weights=[5, 7, 8, 4, 4, 1],
                )[0]()

    async def enqueue(self) -> None:
        dice = self.dice
        jobs: list[NewJob] = []
        for _ in range(dice.randint(1, 4)):
            known = [*self.all[-8:], *(job.id for job in jobs)]
            parents = dice.sample(known, min(len(known), dice.choice([0, 0, 0, 1, 2])))
            jobs.append(
                job_of(
                    id=new_id(),
                    queue=dice.choice(SCOPE.queues),
                    kind=dice.choice(SCOPE.kinds),
                    max_attempts=dice.randint(1, 3),
                    delay=timedelta(milliseconds=dice.choice([20, 100, 60_000]))
                    if dice.random() < 0.3
                    else None,
                    depends_on=tuple(
                        Dependency(parent_id=JobId(parent), on_failure=dice.choice(list(OnParentFailure)))
                        for parent in parents
                    ),
                    concurrency_key=dice.choice([None, None, "c1"]),
                )
            )
        await self.system.jobs.enqueue(jobs)
        self.all += [job.id for job in jobs]

    async def claim(self) -> None:
        claimer = Claimer(
            worker_id=self.dice.choice(self.workers), process=0, isolated=self.dice.random() < 0.2
        )
        self.held += await PostgresDispatch(self.system.database).claim(
            claimer, SCOPE, limit=self.dice.randint(1, 5)
        )

    async def settle(self) -> None:
        chosen = [
            self.held.pop(self.dice.randrange(len(self.held)))
            for _ in range(min(len(self.held), self.dice.randint(1, 3)))
        ]
        if chosen:
            await settle_each(self.system.jobs, [settle(lease, self.ending()) for lease in chosen])

    def ending(self) -> Ending:
        endings: list[Ending] = [
            Completed(result="1"),
            failure("no", retry_in=self.dice.choice([0, 0.05, 60])),
            failure("never", give_up=True),
            Snoozed(delay=timedelta(milliseconds=self.dice.choice([0, 50]))),
            Cancelled(reason="enough"),
            Interrupted(cause="deploy", started=self.dice.random() < 0.5),
            Crashed(cause="SIGKILL", alone=self.dice.random() < 0.5, host_lost=False),
        ]
        return self.dice.choices(endings, weights=[6, 4, 2, 2, 1, 2, 2])[0]

    async def leader(self) -> None:
        jobs = self.system.jobs
        duties: list[Callable[[], Awaitable[object]]] = [
            lambda: jobs.stage(limit=5),
            lambda: jobs.resolve(limit=5),
            jobs.unpark,
            self.system.past.mark,
        ]
        await self.dice.choice(duties)()

    async def operator(self) -> None:
        if not self.all:
            return
        control, dice = self.system.control, self.dice
        chosen = dice.sample(self.all, min(3, len(self.all)))
        queue = dice.choice(SCOPE.queues)
        delays = {each: timedelta(milliseconds=dice.choice([0, 40, 60_000])) for each in chosen}
        acts: list[Callable[[], Awaitable[object]]] = [
            lambda: control.cancel(chosen, OPERATOR),
            lambda: control.retry(chosen, OPERATOR),
            lambda: control.replay(delays, OPERATOR),
            lambda: control.drop(chosen, OPERATOR),
            lambda: control.pause(queue, OPERATOR),
            lambda: control.resume(queue, OPERATOR),
        ]
        await dice.choice(acts)()

    async def fleet(self) -> None:
        workers = self.system.workers
        if len(self.workers) < 3 or self.dice.random() < 0.5:
            self.workers.append(
                await self.system.worker(f"w{len(self.workers)}", kinds=SCOPE.kinds, queues=SCOPE.queues)
            )
        elif self.dice.random() < 0.5:
            await workers.stop(self.workers.pop(0), cause="over")
        else:
            await workers.drain(self.workers[0])
