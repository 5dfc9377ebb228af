"""A worker whose memory leaks: foretold, evacuated by the leader, and replaced, while the work goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle, islice
from typing import Protocol

from perdure import Perdure
from perdure.demo import jobs, sound
from perdure.demo.fleet import Fleet, Member
from perdure.demo.indexing import QUEUE
from perdure.demo.source import python_files
from perdure.demo.story import Scene, StoryFailed, until_drained
from perdure.domain.activity import EventChoice
from perdure.domain.errors import NotFound
from perdure.domain.prediction import Action, Prediction
from perdure.domain.views import EventView
from perdure.services.check import Check
from perdure.services.foresee import Outlook
from perdure.stores.postgres.figures import Handover, PostgresFigures

SOUND, LEAKING = "perdure.demo.sound", "perdure.demo.leaking"
MEMORY_MB = 512
SETTINGS: Mapping[str, object] = {
    "queues": [jobs.QUEUE, QUEUE],
    "processes": 1,
    "concurrency": 4,
    "cpu_processes": 1,
    "prefetch_ms": 1_000,
    "recycle_after_mb": MEMORY_MB,
    "sample_interval_s": 1.0,
    "evacuate_unhealthy": True,
    "model_shadow_share": 0.0,
    "suspect_after_s": 30.0,
    "dead_after_s": 60.0,
}
"""Few slots and a second of work claimed ahead, so that there is something to move. The leader looks after their health every second in
place of every ten, and acts on each warning; silence is borne for longer, for the machine may be busy with other things."""

FILES = 200
BACKLOG = 50
LOOK_S = 0.2
PATIENCE_S = 240.0
RECENT_EVENTS = 50


class Teller(Protocol):
    """Who is told what happens."""

    def say(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decayed:
    """What became of the worker that leaks: what was foretold last, its evacuation, how it ended, and who took its place."""

    name: str
    prediction: Prediction | None
    evacuation: EventView | None
    code: int | None
    handover: Handover
    heir: str
    done_by_heir: int


class Decay:
    """Feeds two workers, one of which leaks, and looks on; what is done about it the leader does."""

    def __init__(
        self, app: Perdure, scene: Scene, fleet: Fleet, figures: PostgresFigures, check: Check, teller: Teller
    ) -> None:
        self._app = app
        self._fleet = fleet
        self._figures = figures
        self._check = check
        self._teller = teller
        self._folder = str(scene.folder)
        self._files = cycle(islice(python_files(scene.folder), FILES))

    async def play(self, first: Member) -> Decayed:
        """A deploy: two workers follow the first, and one of them is not well; until it is replaced and nothing is left to do.

        Raises StoryFailed when that does not come.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._play(first)
        except TimeoutError:
            raise StoryFailed(
                f"no worker that leaks was evacuated and replaced within {PATIENCE_S:g} s"
            ) from None

    async def _play(self, first: Member) -> Decayed:
        other, sick = await asyncio.gather(
            self._fleet.start(SOUND, SETTINGS), self._fleet.start(LEAKING, SETTINGS)
        )
        await first.worker.stop()
        self._teller.say(
            f"{first.name} has made way for {other.title} and {sick.title}, which index the words of the files; "
            f"{sick.name} has a new release, which leaks memory"
        )
        prediction, evacuation = await self._observed(sick)
        if evacuation is not None:
            self._teller.say(f"{sick.name} is evacuated by {evacuation.actor}: {evacuation.reason}")
        code = await sick.worker.process.wait()
        heir = await self._fleet.start(SOUND, SETTINGS)
        self._teller.say(f"{sick.name} has ended with code {code}; {heir.title} takes its place")
        await self._while_fed(lambda: self._works(heir))
        await until_drained(self._check)
        handover = await self._figures.handed_over(sick.id)
        self._teller.say(
            f"{handover.moved} jobs that {sick.name} had not begun went to others, {handover.finished} that ran came to their end"
        )
        return Decayed(
            name=sick.name,
            prediction=prediction,
            evacuation=evacuation,
            code=code,
            handover=handover,
            heir=heir.name,
            done_by_heir=await self._figures.done_by(heir.id),
        )

    async def _observed(self, sick: Member) -> tuple[Prediction | None, EventView | None]:
        """The last prediction before the worker let go of its work, and its evacuation, None when it ended in another way."""
        last: Prediction | None = None

        async def let_go() -> bool:
            nonlocal last
            try:
                outlook = await self._app.health.outlook(sick.id)
            except NotFound:
                return True
            if last is None or outlook.prediction.action is not last.action:
                self._teller.say(_told(sick, outlook))
            last = outlook.prediction
            return sick.worker.process.returncode is not None or await self._evacuation(sick) is not None

        await self._while_fed(let_go)
        return last, await self._evacuation(sick)

    async def _evacuation(self, sick: Member) -> EventView | None:
        activity = (await self._app.stores()).activity
        page = await activity.events(EventChoice(event="worker_evacuating"), limit=RECENT_EVENTS)
        return next((event for event in page.events if event.worker_id == sick.id), None)

    async def _works(self, member: Member) -> bool:
        return await self._figures.done_by(member.id) > 0

    async def _while_fed(self, ended: Callable[[], Awaitable[bool]]) -> None:
        """Keep jobs waiting until something is so."""
        while not await ended():
            progress = {row.kind: row for row in await self._figures.progress()}
            done = progress.get(sound.index.name)
            missing = BACKLOG - (done.jobs - done.completed if done else 0)
            if missing > 0:
                await self._app.enqueue_many(
                    [
                        self._app.prepare(sound.index, self._folder, path)
                        for path in islice(self._files, missing)
                    ]
                )
            await asyncio.sleep(LOOK_S)


def _told(sick: Member, outlook: Outlook) -> str:
    said, health = outlook.prediction, f"{sick.name}: health {outlook.score.value:.2f}"
    if said.action is Action.CONTINUE:
        return health
    why = "; ".join(reason.what for reason in said.reasons)
    return (
        f"{health}; predicted to fail within {_span(said.horizon)} with {said.probability:.0%}{_when(said)}: "
        f"{why}; to do: {said.action}"
    )


def _when(said: Prediction) -> str:
    """By when it will probably have failed, where that is soon."""
    if said.median is None or said.median > said.horizon:
        return ""
    return f", probably within {_span(said.median)}"


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
