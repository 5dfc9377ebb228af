"""After the accidents: look back at one, ask whether a failure was seen before, and bring one damaged graph back."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure import Handle, JobFailed, Perdure
from perdure.demo import jobs
from perdure.demo.packages import PackageFacts
from perdure.demo.source import FileFacts, by_package, python_files
from perdure.demo.story import ACTOR, LOOK_S, PATIENCE, Happened, Scene, StoryFailed, poisoned, until_drained
from perdure.domain.errors import PastUnknown
from perdure.domain.execution_memory import SimilarExecution
from perdure.domain.job import JobState
from perdure.domain.restore import MEANINGS, Action, Phase, Restore, RestoreScope
from perdure.runtime.restore_operations import InPlaceOptions
from perdure.services.check import Check
from perdure.services.restore import HOLD

ALIKE = 0.6
REMEMBERED_WITHIN_S = 60.0
FILES_OF_GRAPH = 6
BROKEN_TOO = "class Broken(:\n    pass\n"
MENDED_TOO = "class Mended:\n    pass\n"
WAITING = (JobState.PENDING, JobState.SCHEDULED, JobState.AVAILABLE, JobState.RETRYABLE)


class Teller(Protocol):
    """Who is told what happens."""

    def say(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How many jobs ran, waited and had completed at a moment."""

    at: datetime
    running: int
    waiting: int
    completed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """A new failure, the most similar one that was fixed before, and whether the same fix helped."""

    job: UUID
    before: SimilarExecution
    fixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A graph that a mistake had damaged: how many of its jobs were cancelled, the restore, and what came of the graph; None while it is held."""

    package: str
    files: int
    jobs: int
    cancelled: int
    snapshot: str
    restore: Restore
    facts: PackageFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedBack:
    """What was seen, recalled and restored."""

    past: Past
    recalled: Recalled
    restored: Restored


class LookBack:
    """Uses what is remembered, as a person would who comes after the accidents."""

    def __init__(self, app: Perdure, scene: Scene, check: Check, teller: Teller) -> None:
        self._app = app
        self._scene = scene
        self._check = check
        self._teller = teller

    async def play(self, happened: Happened) -> LookedBack:
        """One after the other; when it returns nothing is left to do. Raises StoryFailed when it cannot go on."""
        past = await self._past(happened.victim.at)
        recalled = await self._recalled()
        restored = await self._restored()
        if restored.facts is not None:
            await until_drained(self._check)
        return LookedBack(past=past, recalled=recalled, restored=restored)

    async def _past(self, at: datetime) -> Past:
        read = (await self._app.stores()).read
        try:
            found = await read.counts(as_of=at)
        except PastUnknown as unknown:  # a story so short that it was over before the first moment
            if unknown.earliest is None:
                raise
            at = unknown.earliest
            found = await read.counts(as_of=at)
        counts = {one.state: one.count for one in found}
        past = Past(
            at=at,
            running=counts.get(JobState.RUNNING, 0),
            waiting=sum(counts.get(state, 0) for state in WAITING),
            completed=counts.get(JobState.COMPLETED, 0),
        )
        self._teller.say(
            f"looking back to {at:%H:%M:%S} UTC, about when the process was killed: {past.running:,} jobs ran, "
            f"{past.waiting:,} waited, {past.completed:,} had completed"
        )
        return past

    async def _recalled(self) -> Recalled:
        """Another file is broken in its own way; what fixed the failure before is done again."""
        again = await poisoned(self._app, self._scene.work, "poison_2.py", BROKEN_TOO)
        with suppress(JobFailed):
            await again.result(PATIENCE)
        before = await self._seen_before(again)
        self._teller.say(f"another job gave up, {_known(before)}")
        self._scene.work.joinpath("poison_2.py").write_text(MENDED_TOO)
        await (await self._app.stores()).act.replay(again.id, actor=ACTOR, reason="as the one before")
        facts = await again.result(PATIENCE)
        self._teller.say("the same is done again, and the job completes")
        return Recalled(job=again.id, before=before, fixed=not facts.fault)

    async def _seen_before(self, failed: Handle[FileFacts]) -> SimilarExecution:
        """The most similar failure of another job of which it is known what fixed it; executions are remembered within seconds."""
        try:
            async with asyncio.timeout(REMEMBERED_WITHIN_S):
                while True:
                    for one in await self._app.state.similar_patterns(failed.id, ALIKE):
                        if one.execution.resolved is not None:
                            return one
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise StoryFailed(
                f"no execution like the failure of job {failed.id} is remembered with what fixed it"
            ) from None

    async def _restored(self) -> Restored:
        """The graph of one package waits, is saved, damaged by a wrong filter, and brought back while the queue works."""
        act = (await self._app.stores()).act
        folder = str(self._scene.folder)
        package, files = _chosen(by_package(python_files(self._scene.folder)))
        graph, summary = jobs.package_graph(folder, package, files, busy=0)
        await act.pause(jobs.QUEUE, actor=ACTOR, reason="a change is made")
        await asyncio.sleep(HOLD.total_seconds())  # until no worker takes from what it saw before
        await self._app.enqueue_many(graph)
        snapshot = await self._app.state.create_snapshot()
        self._teller.say(
            f"the {len(graph)} jobs of package {package!r} wait; snapshot {snapshot.id}: {snapshot.rows:,} rows"
        )
        mistake = await act.cancel_matching(f"kind:{jobs.analyse.name}", actor=ACTOR, reason="a wrong filter")
        await act.resume(jobs.QUEUE, actor=ACTOR, reason="the change is made")
        self._teller.say(f"a wrong filter cancels {mistake.changed} of them; the rest would wait for ever")
        restore = await self._brought_back(snapshot.id, summary.id)
        done = restore.phase is Phase.DONE
        return Restored(
            package=package,
            files=len(files),
            jobs=len(graph),
            cancelled=mistake.changed,
            snapshot=snapshot.id,
            restore=restore,
            facts=await self._app.handle(jobs.summarise, summary.id).result(PATIENCE) if done else None,
        )

    async def _brought_back(self, snapshot: str, job: UUID) -> Restore:
        options = InPlaceOptions(scope=RestoreScope(graph=job))
        plan = await self._app.state.plan_restore(snapshot, options)
        self._teller.say(f"plan to restore the graph of job {job}: {_told(plan)}")
        done = await self._app.state.apply_restore(plan)
        why = "all promises checked" if done.phase is Phase.DONE else done.report
        self._teller.say(f"the plan is applied: {done.phase}, {done.changes} jobs changed, {why}")
        return done


def _chosen(packages: Mapping[str, list[str]]) -> tuple[str, list[str]]:
    """A package that is neither big nor tiny, and its files."""
    return min(packages.items(), key=lambda one: (abs(len(one[1]) - FILES_OF_GRAPH), one[0]))


def _told(plan: Restore) -> str:
    cases = (
        f"{case.jobs} jobs ({MEANINGS[case.circumstance]}): {case.action}"
        for case in sorted(plan.cases, key=lambda case: case.action is not Action.REQUEUE)
    )
    return "; ".join(cases)


def _known(before: SimilarExecution) -> str:
    was, how = before.execution, before.execution.resolved
    fixed = f"{how.how} by {how.actor or 'itself'}: {how.reason}" if how else "not fixed"
    return f"like job {was.job_id} before ({before.similarity:.0%} alike: {was.error_type}, {was.message}), which was {fixed}"
