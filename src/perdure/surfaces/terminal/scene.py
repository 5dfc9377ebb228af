"""One look at the system: the heading, and the list that is shown, read within bounds."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from perdure.domain.activity import QueueRate
from perdure.domain.alerts.standing import AlertState
from perdure.domain.alerts.views import AlertView
from perdure.domain.errors import InvalidFilter, Unavailable
from perdure.domain.filters import parse
from perdure.domain.job import JobState
from perdure.domain.views import StatusView
from perdure.runtime.wiring import Stores
from perdure.services.foresee import Outlook
from perdure.surfaces.cli.status import firing, judge
from perdure.surfaces.terminal.rows import (
    Row,
    Tab,
    alert_row,
    by_worker,
    count,
    group_row,
    job_row,
    pace,
    queue_row,
    span,
    worker_row,
)

LIMIT = 100
SEARCHED = frozenset({Tab.JOBS, Tab.LETTERS})
"""Lists that the filter language searches; of the others those rows are shown in which all words stand."""

ALERTS_OF_NOW = "alerts are told of the present only"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What somebody looks at: a list, a filter, and a moment of the past, or none."""

    tab: Tab = Tab.QUEUES
    filter: str = ""
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is there to see: the state of the system in a word with its reasons, the figures, and the rows of the list."""

    view: View
    at: datetime
    state: str
    reasons: tuple[str, ...]
    figures: str
    rows: tuple[Row, ...]
    note: str = ""


async def look(stores: Stores, view: View) -> Scene:
    """See how it is, or how it was. Raises Unavailable, and PastUnknown for a moment that nobody remembers."""
    status = await stores.read.status(as_of=view.as_of)
    state, reasons = judge(status, past=view.as_of is not None)
    rates: Sequence[QueueRate] = ()
    alerts: Sequence[AlertView] = ()
    if view.as_of is None:
        rates, page = await _rates(stores), await stores.alerts.page()
        alerts, fires = page.alerts, firing(page)
        state, reasons = "degraded" if fires and state == "ok" else state, [*reasons, *fires]
    rows, note = await _rows(stores, view, rates, alerts)
    return Scene(
        view=view,
        at=status.at or datetime.now(UTC),
        state=state,
        reasons=tuple(reasons),
        figures=_figures(status, rates, alerts),
        rows=tuple(rows),
        note=note,
    )


async def _rows(
    stores: Stores, view: View, rates: Sequence[QueueRate], alerts: Sequence[AlertView]
) -> tuple[Sequence[Row], str]:
    if view.tab in SEARCHED:
        try:
            return await _searched(stores, view)
        except InvalidFilter as error:
            return (), f"filter: {error.why}" + (f"; {error.next_step}" if error.next_step else "")
    now, words = view.as_of or datetime.now(UTC), view.filter.split()
    if view.tab is Tab.QUEUES:
        pace_of = {rate.queue: rate for rate in rates}
        every = [queue_row(one, pace_of.get(one.name)) for one in await stores.read.queues(as_of=view.as_of)]
    elif view.tab is Tab.WORKERS:
        workers, outlooks = await asyncio.gather(
            stores.read.workers(alive_only=True, as_of=view.as_of), _outlooks(stores, view)
        )
        known = by_worker(outlooks)
        every = [worker_row(one, known.get(one.worker.id), now) for one in workers]
    else:
        every = [alert_row(alert, now) for alert in alerts]
    note = ALERTS_OF_NOW if view.tab is Tab.ALERTS and view.as_of else ""
    return [row for row in every if row.has(words)], note


async def _searched(stores: Stores, view: View) -> tuple[Sequence[Row], str]:
    now, wanted = view.as_of or datetime.now(UTC), parse(view.filter)
    if view.tab is Tab.LETTERS:
        groups = await stores.read.groups(wanted, limit=LIMIT, as_of=view.as_of)
        return [group_row(group, now) for group in groups], ""
    page = await stores.read.jobs(wanted, limit=LIMIT, as_of=view.as_of)
    more = f"the newest {LIMIT}: narrow the filter to see others" if page.complete and page.cursor else ""
    return [job_row(job, now) for job in page.jobs], page.note or more


async def _rates(stores: Stores) -> Sequence[QueueRate]:
    """The pace of each queue; none when it is not counted in time."""
    try:
        return await stores.activity.queue_rates()
    except Unavailable:
        return ()


async def _outlooks(stores: Stores, view: View) -> Sequence[Outlook]:
    return () if view.as_of else await stores.foresee.outlooks()


def _figures(status: StatusView, rates: Sequence[QueueRate], alerts: Sequence[AlertView]) -> str:
    counts = {view.state: view for view in status.counts or ()}

    def jobs(state: JobState) -> str:
        view = counts.get(state)
        return count(view.count if view else None, approximate=bool(view and view.approximate))

    parts = [
        f"workers {count(status.workers_active)}"
        + (f" and {status.workers_draining} draining" if status.workers_draining else ""),
        f"waiting {jobs(JobState.AVAILABLE)}",
        f"oldest {span(status.oldest_available_s) or '-'}",
        f"running {jobs(JobState.RUNNING)}",
        f"dead letters {count(status.dead_letters, approximate=status.dead_letters_approximate)}",
    ]
    if rates:
        totals = [
            sum(each) for each in zip(*((r.arriving, r.finishing, r.failing) for r in rates), strict=True)
        ]
        parts += [
            f"{name} {pace(total)}/s" for name, total in zip(("in", "out", "failing"), totals, strict=True)
        ]
    fires = sum(one.state is AlertState.FIRING and one.silenced_until is None for one in alerts)
    return " · ".join(parts + ([f"alerts {fires}"] if fires else []))
