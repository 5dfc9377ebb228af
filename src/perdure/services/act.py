"""Acting: every command that changes what was enqueued, each with an actor, a reason and a dry run."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from uuid import UUID

from perdure.domain.bounds import checked_name
from perdure.domain.criteria import STATES, Criteria, compile_filter
from perdure.domain.errors import DuplicateJob, IllegalTransition, InvalidOption, NotFound
from perdure.domain.filters import FAILED_STATES, Filter, parse
from perdure.domain.job import LIVE, RETRIED, TERMINAL, JobState
from perdure.domain.pace import Pace, checked_rate
from perdure.domain.views import CHANGES, Acted, ActOutcome, ActReport, JobView
from perdure.ports import By, Clock, Control, Insights

Progress = Callable[[ActReport], None]
"""Told after each batch what has been done so far."""

BATCH = 500
SAMPLE = 10
REFUSALS_NAMED = 100
GROUPS_MAX = 500
COUNTED_MAX = 100_000
REASON_LENGTH_MAX = 2_000
PAGE_BUDGET = timedelta(seconds=30)
_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_PARTICIPLES = {"cancel": "cancelled", "retry": "retried", "replay": "replayed", "discard": "acknowledged"}
_NEXT_STEPS = {
    ("retry", JobState.AVAILABLE): "it may start already",
    ("retry", JobState.RUNNING): "cancel it first, or wait for its end",
    ("retry", JobState.COMPLETED): "enqueue a new job to do the work again",
    ("replay", JobState.RETRYABLE): "it is tried again by itself; `retry` starts it now",
    ("replay", JobState.COMPLETED): "enqueue a new job to do the work again",
    ("replay", JobState.DISCARDED): "its dead letter was acknowledged; `retry` gives it a new run",
    ("replay", JobState.CANCELLED): "`retry` gives it a new run",
}
_LISTED = "see `perdure job list`; ended jobs are kept for `retention_days`"
_BLOCKED = "it depends on jobs that have not completed: retry those first"


@dataclass(slots=True)
class _Tally:
    """What a command has done so far."""

    verb: str
    by: By
    dry_run: bool
    matched: int = 0
    outcomes: Counter[ActOutcome] = field(default_factory=Counter)
    sample: list[JobView] = field(default_factory=list)
    acted: list[Acted] = field(default_factory=list)

    def count(self, acted: Sequence[Acted]) -> None:
        self.outcomes.update(each.outcome for each in acted)
        room = REFUSALS_NAMED - len(self.acted)
        self.acted += [each for each in acted if each.outcome not in CHANGES][:room]

    def report(self, *, note: str = "", finishes_in: timedelta | None = None) -> ActReport:
        return ActReport(
            verb=self.verb,
            actor=self.by.actor,
            reason=self.by.reason,
            dry_run=self.dry_run,
            matched=self.matched,
            outcomes=dict(self.outcomes),
            sample=tuple(self.sample),
            acted=tuple(self.acted),
            complete=not note,
            note=note,
            finishes_in=finishes_in,
        )


class _Walk:
    """The ids of all that match, page by page from the newest on; `note` tells why it ended early."""

    def __init__(self, insights: Insights, criteria: Criteria, most: int | None) -> None:
        self._insights = insights
        self._criteria = criteria
        self._left = COUNTED_MAX * COUNTED_MAX if most is None else most
        self._cursor: str | None = None
        self.note = ""

    async def jobs(self) -> AsyncIterator[Sequence[UUID]]:
        while self._left > 0:
            page = await self._insights.jobs(
                self._criteria, limit=min(BATCH, self._left), before=self._cursor, budget=PAGE_BUDGET
            )
            yield self._took([job.id for job in page.jobs])
            if self._ended(page.cursor, complete=page.complete):
                return

    async def letters(self) -> AsyncIterator[Sequence[UUID]]:
        while self._left > 0:
            page = await self._insights.letters(
                self._criteria, limit=min(BATCH, self._left), before=self._cursor, budget=PAGE_BUDGET
            )
            yield self._took([letter.job_id for letter in page.letters])
            if self._ended(page.cursor, complete=page.complete):
                return

    def _took(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        self._left -= len(ids)
        return ids

    def _ended(self, cursor: str | None, *, complete: bool) -> bool:
        if not complete and cursor == self._cursor:
            self.note = "the search ran out of time; narrow the filter and repeat the command"
            return True
        self._cursor = cursor
        return cursor is None


class Act:
    """Changes jobs, queues and workers by somebody's will, and leaves an event for each change.

    Commands on one job raise: NotFound, IllegalTransition, DuplicateJob. Commands on a filter never stop at a job
    that refuses; their report counts the outcomes and names the first refusals. With `dry_run` nothing changes: the
    report tells how many jobs match, with a sample.
    """

    def __init__(self, control: Control, insights: Insights, clock: Clock | None = None) -> None:
        self._control = control
        self._insights = insights
        self._monotonic = monotonic if clock is None else clock.monotonic

    async def cancel(self, job_id: UUID, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """End a waiting job as cancelled, or ask the worker of a running one to stop; repeating it does no harm."""
        tally = _Tally("cancel", _by(actor, reason), dry_run)
        return await self._one(tally, job_id, self._control.cancel, LIVE)

    async def retry(self, job_id: UUID, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """Make a retryable or scheduled job available at once, or a discarded or cancelled one in a new run."""
        tally = _Tally("retry", _by(actor, reason), dry_run)
        return await self._one(tally, job_id, self._control.retry, RETRIED)

    async def cancel_matching(
        self,
        filter: str | Filter,
        *,
        actor: str,
        reason: str = "",
        dry_run: bool = False,
        most: int | None = None,
        progress: Progress | None = None,
    ) -> ActReport:
        """Cancel every job that matches now and has not ended, in batches of their own transactions.

        Raises InvalidFilter.
        """
        criteria = _criteria(filter)
        tally = _Tally("cancel", _by(actor, reason), dry_run)
        walk = _Walk(self._insights, replace(criteria, states=criteria.states & LIVE), _most(most, "most"))
        return await self._many(tally, walk, walk.jobs(), self._control.cancel, progress)

    async def retry_matching(
        self,
        filter: str | Filter,
        *,
        actor: str,
        reason: str = "",
        dry_run: bool = False,
        most: int | None = None,
        progress: Progress | None = None,
    ) -> ActReport:
        """Retry every job that matches now. A filter that names no state means the failed ones.

        Raises InvalidFilter.
        """
        criteria = _criteria(filter)
        states = FAILED_STATES if criteria.states == STATES else criteria.states & RETRIED
        tally = _Tally("retry", _by(actor, reason), dry_run)
        walk = _Walk(self._insights, replace(criteria, states=states), _most(most, "most"))
        return await self._many(tally, walk, walk.jobs(), self._control.retry, progress)

    async def replay(  # noqa: PLR0913 - the words of one command, all but the first by name
        self,
        selection: UUID | str | Filter,
        *,
        actor: str,
        reason: str = "",
        dry_run: bool = False,
        sample: int | None = None,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> ActReport:
        """Give dead letters a new run: one by its job id, or those that match (`fingerprint:ab12` for a group).

        `sample` takes only the newest that many. `rate` starts that many per second: they are scheduled ahead, so that
        nobody has to stay connected.
        """
        tally = _Tally("replay", _by(actor, reason), dry_run)
        pace = Pace(checked_rate(rate), self._monotonic)

        async def replay(job_ids: Sequence[UUID], by: By) -> Sequence[Acted]:
            return await self._control.replay(pace.delays(job_ids), by)

        if isinstance(selection, UUID):
            return await self._one(tally, selection, replay, _DISCARDED)
        walk = _Walk(self._insights, _criteria(selection), _most(sample, "sample"))
        if dry_run and sample is None and (preview := await self._preview(tally, selection)) is not None:
            return preview
        report = await self._many(tally, walk, walk.letters(), replay, progress)
        return report if rate is None else replace(report, finishes_in=pace.finishes_in(report.matched))

    async def discard(
        self,
        selection: UUID | str | Filter,
        *,
        actor: str,
        reason: str,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ActReport:
        """Acknowledge dead letters and take them out of the queue; their history stays, and they stay discarded."""
        tally = _Tally("discard", _by(actor, reason), dry_run)
        if isinstance(selection, UUID):
            return await self._one(tally, selection, self._control.drop, _DISCARDED)
        walk = _Walk(self._insights, _criteria(selection), None)
        if dry_run and (preview := await self._preview(tally, selection)) is not None:
            return preview
        return await self._many(tally, walk, walk.letters(), self._control.drop, progress)

    async def pause(self, queue: str, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """Leave a queue out of all claims; what runs goes on. Pausing twice changes nothing. Raises NotFound."""
        return await self._switch(_Tally("pause", _by(actor, reason), dry_run), queue, self._control.pause)

    async def resume(self, queue: str, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """Let a paused queue be claimed from again. Raises NotFound."""
        return await self._switch(_Tally("resume", _by(actor, reason), dry_run), queue, self._control.resume)

    async def drain(
        self, worker_id: UUID, *, actor: str, reason: str = "", dry_run: bool = False
    ) -> ActReport:
        """Ask a worker to finish what it runs and to take nothing new. Raises NotFound unless it lives."""
        tally = _Tally("drain", _by(actor, reason), dry_run, matched=1)
        if not dry_run:
            tally.outcomes[_done(await self._control.drain(worker_id, tally.by))] += 1
            return tally.report()
        found = await self._insights.workers(alive_only=True, key=str(worker_id), budget=PAGE_BUDGET)
        if not found:
            raise NotFound("active worker", worker_id, next_step="see `perdure worker list`")
        return tally.report()

    async def _one(
        self, tally: _Tally, job_id: UUID, act: "_Action", states: frozenset[JobState]
    ) -> ActReport:
        tally.matched = 1
        if tally.dry_run:
            detail = await self._insights.job(job_id, budget=PAGE_BUDGET)
            if detail is None:
                raise NotFound("job", job_id, next_step=_LISTED)
            _require(job_id, detail.job.state in states, detail.job.state, tally.verb)
            _require(
                job_id,
                tally.verb not in _OF_LETTERS or detail.dead_letter is not None,
                detail.job.state,
                tally.verb,
            )
            tally.sample.append(detail.job)
            return tally.report()
        acted = (await act([job_id], tally.by))[0]
        _raise_refusal(acted, tally.verb)
        tally.outcomes[acted.outcome] += 1
        tally.acted.append(acted)
        return tally.report()

    async def _many(
        self,
        tally: _Tally,
        walk: _Walk,
        pages: AsyncIterator[Sequence[UUID]],
        act: "_Action",
        progress: Progress | None,
    ) -> ActReport:
        async for job_ids in pages:
            if not job_ids:
                continue
            tally.matched += len(job_ids)
            if not tally.sample:
                tally.sample += await self._views(job_ids[:SAMPLE])
            if not tally.dry_run:
                tally.count(await act(job_ids, tally.by))
            elif tally.matched >= COUNTED_MAX:
                walk.note = f"more than {COUNTED_MAX:,} match; counting stopped"
                break
            if progress is not None:
                progress(tally.report())
        return tally.report(note=walk.note)

    async def _preview(self, tally: _Tally, selection: str | Filter) -> ActReport | None:
        """How many dead letters match, by the sizes of their groups; None where those are too many to be asked for."""
        criteria = _criteria(selection)
        groups = await self._insights.groups(criteria, limit=GROUPS_MAX, budget=PAGE_BUDGET)
        if len(groups) == GROUPS_MAX:
            return None
        newest = await self._insights.letters(criteria, limit=SAMPLE, before=None, budget=PAGE_BUDGET)
        tally.matched = sum(group.count for group in groups)
        if newest.letters:
            tally.sample += await self._views([letter.job_id for letter in newest.letters])
        return tally.report()

    async def _views(self, job_ids: Sequence[UUID]) -> Sequence[JobView]:
        criteria = Criteria(ids=frozenset(job_ids))
        return (await self._insights.jobs(criteria, limit=SAMPLE, before=None, budget=PAGE_BUDGET)).jobs

    async def _switch(
        self, tally: _Tally, queue: str, act: Callable[[str, By], Awaitable[bool]]
    ) -> ActReport:
        checked_name(queue, "queue")
        tally.matched = 1
        if not tally.dry_run:
            tally.outcomes[_done(await act(queue, tally.by))] += 1
        elif not await self._insights.queues(queue, budget=PAGE_BUDGET):
            raise NotFound("queue", queue, next_step="see `perdure queue list`")
        return tally.report()


_Action = Callable[[Sequence[UUID], By], Awaitable[Sequence[Acted]]]
_DISCARDED = frozenset({JobState.DISCARDED})
_OF_LETTERS = frozenset({"replay", "discard"})


def _done(changed: bool) -> ActOutcome:
    return ActOutcome.DONE if changed else ActOutcome.UNCHANGED


def _criteria(filter: str | Filter) -> Criteria:
    return compile_filter(parse(filter) if isinstance(filter, str) else filter)


def _by(actor: str, reason: str) -> By:
    if len(reason) > REASON_LENGTH_MAX:
        raise InvalidOption("reason", f"has {len(reason)} characters; the limit is {REASON_LENGTH_MAX}")
    if _UNFIT.search(reason):
        raise InvalidOption("reason", "contains a control character or half of a surrogate pair")
    return By(actor=checked_name(actor, "actor"), reason=reason)


def _most(most: int | None, name: str) -> int | None:
    if most is not None and most < 1:
        raise InvalidOption(name, f"{most} is not a positive number")
    return most


def _require(job_id: UUID, allowed: bool, state: JobState, verb: str) -> None:
    if not allowed:
        step = _NEXT_STEPS.get((verb, state), "it has ended" if state in TERMINAL else "it is no dead letter")
        raise IllegalTransition(job_id, state, _PARTICIPLES[verb], next_step=step)


def _raise_refusal(acted: Acted, verb: str) -> None:
    """Raise the error that an answer for one job means, if it means one."""
    participle = _PARTICIPLES[verb]
    state = acted.state or JobState.CANCELLED
    match acted.outcome:
        case ActOutcome.MISSING:
            raise NotFound("job", acted.job_id, next_step=_LISTED)
        case ActOutcome.ILLEGAL:
            _require(acted.job_id, False, state, verb)
        case ActOutcome.BLOCKED:
            raise IllegalTransition(acted.job_id, state, participle, next_step=_BLOCKED)
        case ActOutcome.MOVING:
            raise IllegalTransition(
                acted.job_id, state, participle, next_step="it changes its state by the moment: try again"
            )
        case ActOutcome.DUPLICATE if acted.holder is not None:
            error = DuplicateJob(acted.key, acted.holder)
            error.next_step = f"wait for job {acted.holder} to end, or cancel it"
            raise error
        case _:
            return
