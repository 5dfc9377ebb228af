"""The story: a pipeline at work, and everything that happens to it."""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID

from perdure import Handle, JobFailed, Perdure, PerdureError
from perdure.demo import jobs
from perdure.demo.accident import Victim, kill_one_at_work
from perdure.demo.jobs import Plan, Written
from perdure.demo.source import FileFacts
from perdure.runtime.operations import SpawnedWorker
from perdure.services.check import Check
from perdure.stores.postgres.figures import KindProgress, PostgresFigures

ACTOR = "perdure demo"
DELAY = timedelta(seconds=6)
PATIENCE = timedelta(minutes=30)
"""Nothing here may wait for ever; an input that takes longer is too big for a demonstration."""
TOLD_EVERY_S = 0.5
LOOK_S = 0.1
KILL_AFTER = 0.3
MANY = 200
"""Files from which there is a backlog to speak of."""
BROKEN = "def broken(:\n    return 'a file that is no Python'\n"
MENDED = "def mended():\n    return 'a file that is Python'\n"


class StoryFailed(PerdureError):
    """The demonstration did not go as its story says."""

    next_step = "read worker.log in its folder, and start it again with --keep to look at the jobs"


class Teller(Protocol):
    """Who is told what happens."""

    def say(self, text: str) -> None: ...

    def progress(self, kinds: Mapping[str, KindProgress]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where the story takes place: the folder that is read, and one of its own for what is written."""

    folder: Path
    work: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """A group of dead letters whose cause was mended: what it died of, and how many jobs were replayed and completed."""

    job: UUID
    fingerprint: str
    error: str
    letters: int
    replayed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What happened in the story, for the history to confirm."""

    plan: Plan
    written: Written
    mended: Mended
    stock: Handle[int]
    counted: int
    urgent: UUID
    victim: Victim


async def until_drained(check: Check) -> None:
    """Wait until no job is left to do."""
    while True:
        if not any((await check.live()).values()):
            return
        await asyncio.sleep(LOOK_S)


async def poisoned(app: Perdure, work: Path, name: str, content: str) -> Handle[FileFacts]:
    """A job that cannot succeed: its file is no Python. It lies in our own folder; the input is only read."""
    work.joinpath(name).write_text(content)
    strict = app.using(retries=1, priority=4)
    return await strict.enqueue(jobs.analyse, str(work), name, strict=True)


class Story:
    """Enqueues, breaks, mends and looks on; `play` returns when nothing is left to do."""

    def __init__(
        self,
        app: Perdure,
        scene: Scene,
        worker: SpawnedWorker,
        figures: PostgresFigures,
        check: Check,
        teller: Teller,
    ) -> None:
        self._app = app
        self._check = check
        self._scene = scene
        self._worker = worker
        self._figures = figures
        self._teller = teller
        self._kinds: Mapping[str, KindProgress] = {}
        self._poison: Handle[FileFacts] | None = None

    async def play(self) -> Happened:
        """Everything, until the last job has ended. Raises StoryFailed when it cannot go on."""
        happened = await self._watched(self._all())
        self._teller.progress({row.kind: row for row in await self._figures.progress()})
        return happened

    async def _all(self) -> Happened:
        scene = self._scene
        stock = await self._app.using(delay=DELAY).enqueue(jobs.take_stock)
        self._poison = poison = await poisoned(self._app, scene.work, "poison.py", BROKEN)
        scan = await self._app.enqueue(jobs.scan, str(scene.folder), str(scene.work))
        plan = await scan.result(PATIENCE)
        self._teller.say(
            f"scanned {scene.folder}: {plan.files:,} files in {plan.packages:,} packages; the scan has enqueued "
            f"{plan.files + 2 * plan.packages + 1:,} jobs that depend on each other"
        )
        written, mended, counted, urgent, victim = await asyncio.gather(
            self._app.handle(jobs.write_report, plan.report).result(PATIENCE),
            self._mend(poison),
            stock.result(PATIENCE),
            self._urgent(plan),
            self._kill(plan),
        )
        await until_drained(self._check)
        return Happened(
            plan=plan,
            written=written,
            mended=mended,
            stock=stock,
            counted=counted,
            urgent=urgent,
            victim=victim,
        )

    async def _watched(self, acts: Awaitable[Happened]) -> Happened:
        """The acts' outcome, while progress is told; a worker or a job that is lost ends the wait."""
        playing = asyncio.ensure_future(acts)
        watching = [asyncio.ensure_future(self._tell()), asyncio.ensure_future(self._guard())]
        try:
            await asyncio.wait([playing, *watching], return_when=asyncio.FIRST_COMPLETED)
            for watch in watching:
                if watch.done():
                    watch.result()
            return await playing
        finally:
            for task in (playing, *watching):
                task.cancel()
            await asyncio.gather(playing, *watching, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            self._kinds = {row.kind: row for row in await self._figures.progress()}
            self._teller.progress(self._kinds)
            await self._refuse_losses()
            await asyncio.sleep(TOLD_EVERY_S)

    async def _refuse_losses(self) -> None:
        """End the story when a job is dead that was to live: what depends on it would wait for ever."""
        if not any(row.discarded for row in self._kinds.values()):
            return
        letters = (await (await self._app.stores()).read.dead_letters()).letters
        lost = [letter for letter in letters if self._poison is None or letter.job_id != self._poison.id]
        if lost:
            raise StoryFailed(
                f"job {lost[0].job_id} ({lost[0].kind}) is in the dead letter queue: {lost[0].cause}"
            )

    async def _guard(self) -> None:
        code = await self._worker.process.wait()
        raise StoryFailed(f"the worker ended by itself, with code {code}")

    async def _mend(self, poison: Handle[FileFacts]) -> Mended:
        with suppress(JobFailed):
            await poison.result(PATIENCE)
        stores = await self._app.stores()
        (group,) = await stores.read.groups()
        error = group.error.type if group.error else group.cause
        self._teller.say(f"dead letter queue: group {group.fingerprint} ({group.cause}), {group.count} job")
        self._scene.work.joinpath("poison.py").write_text(MENDED)
        report = await stores.act.replay(
            f"fingerprint:{group.fingerprint}", actor=ACTOR, reason="the file was mended"
        )
        self._teller.say("the file is mended; its group is replayed")
        await poison.result(PATIENCE)
        return Mended(
            job=poison.id,
            fingerprint=group.fingerprint,
            error=error,
            letters=group.count,
            replayed=report.changed,
        )

    async def _urgent(self, plan: Plan) -> UUID:
        urgent = await self._app.using(priority=5).enqueue(jobs.analyse, str(self._scene.folder), plan.sample)
        await urgent.result(PATIENCE)
        timing = await self._figures.timing(urgent.id)
        waited = (timing.started_at - timing.available_at).total_seconds()
        self._teller.say(
            f"a job of priority 5, enqueued behind the backlog, began after {waited * 1000:.0f} ms"
        )
        return urgent.id

    async def _kill(self, plan: Plan) -> Victim:
        first = plan.files * KILL_AFTER if plan.files >= MANY else 0
        while True:
            if self._analysed() >= first:
                break
            await asyncio.sleep(LOOK_S)
        try:
            victim = await kill_one_at_work(self._worker, self._figures)
        except TimeoutError:
            raise StoryFailed("no process of the worker was seen at work, so none could be killed") from None
        self._teller.say(
            f"killed process {victim.number} of the worker (pid {victim.pid}, SIGKILL): it held {victim.held} jobs"
        )
        return victim

    def _analysed(self) -> int:
        analysed = self._kinds.get(jobs.analyse.name)
        return analysed.completed if analysed else 0
