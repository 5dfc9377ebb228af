"""What can be done from a page: each action with its permission, its words, and the command behind it."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from perdure.domain.access import Permission
from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption
from perdure.domain.evacuation import Evacuation
from perdure.domain.restore import Phase
from perdure.domain.views import ActOutcome, ActReport
from perdure.ports import By
from perdure.runtime.state_operations import StateOperations
from perdure.services.act import Act, Progress
from perdure.services.evacuate import Evacuate, Terms

GRACE_USUAL, DRAIN_USUAL = "30s", "5m"
MOVES_TOLD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants done: the fields of a form, who it is, and whether only to look."""

    act: Act
    evacuate: Evacuate
    state: StateOperations
    form: Mapping[str, str]
    actor: str
    dry_run: bool
    progress: Progress | None = None

    @property
    def common(self) -> dict[str, Any]:
        """What every command takes."""
        return {"actor": self.actor, "reason": self.form.get("reason", "").strip(), "dry_run": self.dry_run}

    @property
    def is_for_one(self) -> bool:
        """Whether it is about one job."""
        return bool(self.form.get("job"))

    def id(self, name: str) -> UUID:
        """An id in the form. Raises InvalidOption."""
        try:
            return UUID(self.form.get(name, ""))
        except ValueError:
            raise InvalidOption(name, f"{self.form.get(name, '')!r} is not an id") from None

    @property
    def selection(self) -> UUID | str:
        """One job, or a filter."""
        return self.id("job") if self.is_for_one else self.form.get("filter", "")

    def number(self, name: str) -> float | None:
        """A number that may have been left out. Raises InvalidOption."""
        text = self.form.get(name, "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidOption(name, f"{text!r} is not a number")
        return value

    def count(self, name: str) -> int | None:
        """A whole number that may have been left out. Raises InvalidOption."""
        value = self.number(name)
        if value is not None and not value.is_integer():
            raise InvalidOption(name, f"{value} is not a whole number")
        return None if value is None else int(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """An action: `title` on its button, `effect` in a sentence, `does` the command.

    `grace` is the time that running jobs usually have to end, where that is asked for.
    """

    name: str
    permission: Permission
    title: str
    effect: str
    does: Callable[[Wish], Awaitable[ActReport]]
    is_paced: bool = False
    grace: str = ""
    needs_reason: bool = False
    is_grave: bool = False


async def _cancel(wish: Wish) -> ActReport:
    if wish.is_for_one:
        return await wish.act.cancel(wish.id("job"), **wish.common)
    return await wish.act.cancel_matching(wish.form.get("filter", ""), progress=wish.progress, **wish.common)


async def _retry(wish: Wish) -> ActReport:
    if wish.is_for_one:
        return await wish.act.retry(wish.id("job"), **wish.common)
    return await wish.act.retry_matching(wish.form.get("filter", ""), progress=wish.progress, **wish.common)


async def _replay(wish: Wish) -> ActReport:
    return await wish.act.replay(
        wish.selection,
        sample=wish.count("sample"),
        rate=wish.number("rate"),
        progress=wish.progress,
        **wish.common,
    )


async def _discard(wish: Wish) -> ActReport:
    if not wish.dry_run and not wish.common["reason"]:
        raise InvalidOption("reason", "say why, for those who look for these jobs later")
    return await wish.act.discard(wish.selection, progress=wish.progress, **wish.common)


async def _pause(wish: Wish) -> ActReport:
    return await wish.act.pause(wish.form.get("queue", ""), **wish.common)


async def _resume(wish: Wish) -> ActReport:
    return await wish.act.resume(wish.form.get("queue", ""), **wish.common)


async def _drain(wish: Wish) -> ActReport:
    return await wish.act.drain(wish.id("worker"), **wish.common)


async def _cordon(wish: Wish) -> ActReport:
    return await _switched(wish, "cordon", wish.evacuate.cordon)


async def _uncordon(wish: Wish) -> ActReport:
    return await _switched(wish, "uncordon", wish.evacuate.uncordon)


async def _switched(wish: Wish, verb: str, switch: Callable[[UUID, By], Awaitable[bool]]) -> ActReport:
    worker_id, common = wish.id("worker"), wish.common
    outcomes = {}
    if not wish.dry_run:
        changed = await switch(worker_id, By(actor=wish.actor, reason=common["reason"]))
        outcomes = {ActOutcome.DONE if changed else ActOutcome.UNCHANGED: 1}
    return ActReport(verb=verb, matched=1, outcomes=outcomes, **common)


async def _evacuate(wish: Wish) -> ActReport:
    """The preview tells where each of its jobs can go."""
    grace = parse_duration(wish.form.get("grace", "").strip() or GRACE_USUAL, "grace")
    by = By(actor=wish.actor, reason=wish.common["reason"])
    plan = await wish.evacuate.evacuate(wish.id("worker"), by, Terms(grace=grace, dry_run=wish.dry_run))
    outcomes = {} if wish.dry_run else {ActOutcome.DONE if plan.changed else ActOutcome.UNCHANGED: 1}
    return ActReport(
        verb="evacuate", matched=plan.jobs, outcomes=outcomes, note=_in_words(plan), **wish.common
    )


async def _restore(wish: Wish) -> ActReport:
    """What is carried out is the plan that was looked at: its digest comes with the form."""
    plan = await wish.state.restore(wish.id("restore"))
    if wish.dry_run:
        if plan.phase is not Phase.PLANNED:
            raise InvalidOption("restore", f"is {plan.phase} already", next_step="draw a new plan")
        return ActReport(verb="restore", matched=plan.changes, **wish.common)
    if not wish.common["reason"]:
        raise InvalidOption("reason", "say why, for those who look at these jobs later")
    seen = replace(plan, digest=wish.form.get("digest", ""))
    drain = parse_duration(wish.form.get("grace", "").strip() or DRAIN_USUAL, "grace")
    by = By(actor=wish.actor, reason=wish.common["reason"])
    done = await wish.state.apply_restore(seen, drain=drain, by=by)
    failed = sum(case.jobs for case in done.conflicts)
    outcomes = {ActOutcome.DONE: done.changes - failed, ActOutcome.UNCHANGED: failed}
    note = f"The restore is {done.phase}. {done.report}".strip()
    return ActReport(verb="restore", matched=done.changes, outcomes=outcomes, note=note, **wish.common)


def _in_words(plan: Evacuation) -> str:
    if not plan.jobs:
        return f"{plan.worker} runs nothing, so nothing has to be moved."
    moves = [
        f"{move.jobs} {move.kind} of {move.queue} to {', '.join(move.destinations[:MOVES_TOLD]) or 'nobody yet'}"
        for move in plan.moves[:MOVES_TOLD]
    ]
    if len(plan.moves) > MOVES_TOLD:
        moves.append(f"and {len(plan.moves) - MOVES_TOLD} more kinds of jobs")
    waits = f" {plan.stranded} of them will wait: no other worker takes them now." if plan.stranded else ""
    return f"{plan.jobs} jobs will be moved from {plan.worker}: {'; '.join(moves)}.{waits}"


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="cancel",
            permission=Permission.CANCEL,
            title="Cancel",
            effect="Jobs that wait end as cancelled; workers of running ones are asked to stop them.",
            does=_cancel,
            is_grave=True,
        ),
        Verb(
            name="retry",
            permission=Permission.RETRY,
            title="Retry",
            effect="Jobs that wait for a retry start at once; those that gave up or were cancelled get a new run.",
            does=_retry,
        ),
        Verb(
            name="replay",
            permission=Permission.REPLAY,
            title="Replay",
            effect="Dead letters leave the queue and get a new run, with all counts at zero.",
            does=_replay,
            is_paced=True,
        ),
        Verb(
            name="discard",
            permission=Permission.DISCARD,
            title="Discard",
            effect="Dead letters are acknowledged and leave the queue; their jobs and their history stay discarded.",
            does=_discard,
            needs_reason=True,
            is_grave=True,
        ),
        Verb(
            name="pause",
            permission=Permission.PAUSE,
            title="Pause",
            effect="Nobody takes jobs from the queue any more; what runs goes on.",
            does=_pause,
        ),
        Verb(
            name="resume",
            permission=Permission.PAUSE,
            title="Resume",
            effect="Workers take jobs from the queue again.",
            does=_resume,
        ),
        Verb(
            name="drain",
            permission=Permission.DRAIN,
            title="Drain",
            effect="The worker finishes what it runs, takes nothing new, and ends.",
            does=_drain,
            is_grave=True,
        ),
        Verb(
            name="cordon",
            permission=Permission.DRAIN,
            title="Cordon",
            effect="The worker takes nothing new; what it runs goes on. It can be undone.",
            does=_cordon,
        ),
        Verb(
            name="uncordon",
            permission=Permission.DRAIN,
            title="Uncordon",
            effect="The worker takes new work again.",
            does=_uncordon,
        ),
        Verb(
            name="evacuate",
            permission=Permission.DRAIN,
            title="Evacuate",
            effect="What the worker has not started goes to others at once; what runs has time to end and is then given back, "
            "burning no attempt. Then the worker ends.",
            does=_evacuate,
            grace=GRACE_USUAL,
            is_grave=True,
        ),
        Verb(
            name="restore",
            permission=Permission.RESTORE,
            title="Restore",
            effect="Queues of the plan are held, what runs has time to end, jobs become what they were, all promises are checked. "
            "It can be undone by a restore of its own.",
            does=_restore,
            grace=DRAIN_USUAL,
            needs_reason=True,
            is_grave=True,
        ),
    )
}
