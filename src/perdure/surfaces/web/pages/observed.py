"""The answers that several pages show, each asked for once for everybody who looks."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from perdure.domain.activity import Minute, QueueRate, ThroughputView
from perdure.domain.errors import Unavailable
from perdure.domain.views import GroupView, QueueView, StatusView, WorkerView
from perdure.services.foresee import Outlook
from perdure.surfaces.web.pages.frame import Visit

SPAN = timedelta(hours=1)
FRESH = timedelta(minutes=2)
HISTORY_KEPT_S = 55.0
LATEST_KEPT_S = 2.0
RATES_KEPT_S = 4.0
GROUPS_ON_NOW = 5
OUTLOOKS_KEPT_S = 5.0
PAST_WITHIN = timedelta(seconds=10)
"""Jobs of the past are counted one after the other; who looks back may wait for it rather than be refused."""


async def status(visit: Visit) -> StatusView:
    """The system on one screen."""
    if visit.as_of is not None:
        return await visit.stores.read.status(as_of=visit.as_of, budget=PAST_WITHIN)
    return await visit.web.recent.get("status", visit.stores.read.status)


async def queues(visit: Visit) -> Sequence[QueueView]:
    """All queues."""
    if visit.as_of is not None:
        return await visit.stores.read.queues(as_of=visit.as_of, budget=PAST_WITHIN)
    return await visit.web.recent.get("queues", visit.stores.read.queues)


async def workers(visit: Visit) -> Sequence[WorkerView]:
    """The workers that live, and those that ended lately."""
    if visit.as_of is not None:
        return await visit.stores.read.workers(as_of=visit.as_of, budget=PAST_WITHIN)
    return await visit.web.recent.get("workers", visit.stores.read.workers)


async def outlooks(visit: Visit) -> Sequence[Outlook]:
    """How well the living workers are and what will become of them, the likeliest failure first; none of the past."""
    if visit.as_of is not None:
        return ()
    return await visit.web.recent.get("outlooks", visit.stores.foresee.outlooks, OUTLOOKS_KEPT_S)


async def groups(visit: Visit) -> Sequence[GroupView]:
    """The largest groups of dead letters."""
    if visit.as_of is not None:
        return await visit.stores.read.groups(limit=GROUPS_ON_NOW, as_of=visit.as_of, budget=PAST_WITHIN)
    return await visit.web.recent.get("groups", lambda: visit.stores.read.groups(limit=GROUPS_ON_NOW))


async def rates(visit: Visit) -> dict[str, QueueRate]:
    """The pace of each queue; none when it cannot be told in time, and none of the past."""
    if visit.as_of is not None:
        return {}
    try:
        found = await visit.web.recent.get("rates", visit.stores.activity.queue_rates, RATES_KEPT_S)
    except Unavailable:
        return {}
    return {rate.queue: rate for rate in found}


async def throughput(visit: Visit) -> ThroughputView:
    """The last hour by minutes: the past is asked for once a minute, the latest two minutes at every look."""
    activity, recent = visit.stores.activity, visit.web.recent
    if visit.as_of is not None:
        # Whole minutes are counted already. The one that had begun is shown nowhere, so it stays empty.
        begun = visit.as_of.replace(second=0, microsecond=0)
        whole = await activity.throughput(SPAN, as_of=begun)
        return replace(whole, minutes=(*whole.minutes, Minute(at=begun)))
    past, latest = await asyncio.gather(
        recent.get("past", lambda: activity.throughput(SPAN), HISTORY_KEPT_S),
        recent.get("latest", lambda: activity.throughput(FRESH), LATEST_KEPT_S),
    )
    return ThroughputView(
        minutes=_merged(past.minutes, latest.minutes),
        complete=past.complete and latest.complete,
        note=past.note or latest.note,
    )


def _merged(past: Sequence[Minute], latest: Sequence[Minute]) -> tuple[Minute, ...]:
    by_minute = {minute.at: minute for minute in past} | {minute.at: minute for minute in latest}
    return tuple(by_minute[at] for at in sorted(by_minute))[-60:]
