"""The answers that several pages show, each asked for once for everybody who looks."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from perdure.domain.activity import Minute, QueueRate, ThroughputView
from perdure.domain.errors import Unavailable
from perdure.domain.views import GroupView, QueueView, StatusView, WorkerView
from perdure.surfaces.web.pages.frame import Visit

SPAN = timedelta(hours=1)
FRESH = timedelta(minutes=2)
HISTORY_KEPT_S = 55.0
LATEST_KEPT_S = 2.0
RATES_KEPT_S = 4.0
GROUPS_ON_NOW = 5


async def status(visit: Visit) -> StatusView:
    """The system on one screen."""
    return await visit.web.recent.get("status", visit.stores.read.status)


async def queues(visit: Visit) -> Sequence[QueueView]:
    """All queues."""
    return await visit.web.recent.get("queues", visit.stores.read.queues)


async def workers(visit: Visit) -> Sequence[WorkerView]:
    """The workers that live, and those that ended lately."""
    return await visit.web.recent.get("workers", visit.stores.read.workers)


async def groups(visit: Visit) -> Sequence[GroupView]:
    """The largest groups of dead letters."""
    return await visit.web.recent.get("groups", lambda: visit.stores.read.groups(limit=GROUPS_ON_NOW))


async def rates(visit: Visit) -> dict[str, QueueRate]:
    """The pace of each queue; none when it cannot be told in time."""
    try:
        found = await visit.web.recent.get("rates", visit.stores.activity.queue_rates, RATES_KEPT_S)
    except Unavailable:
        return {}
    return {rate.queue: rate for rate in found}


async def throughput(visit: Visit) -> ThroughputView:
    """The last hour by minutes: the past is asked for once a minute, the latest two minutes at every look."""
    activity, recent = visit.stores.activity, visit.web.recent
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
