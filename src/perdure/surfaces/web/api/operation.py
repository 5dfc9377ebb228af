"""Queues, dead letters, flows and the state of the whole over HTTP."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from litestar.params import JSONBody, Parameter

from perdure.domain.access import Permission
from perdure.domain.activity import EventChoice, EventPage, QueueRate, ThroughputView
from perdure.domain.errors import InvalidOption
from perdure.domain.filters import complete
from perdure.domain.flow import FlowPage
from perdure.domain.job import JobState
from perdure.domain.pressure import Pressure
from perdure.domain.views import ActReport, CountView, DeadLetterPage, GroupView, QueueView
from perdure.surfaces.cli.status import judge
from perdure.surfaces.web.api.answers import Autoscale, Verdict
from perdure.surfaces.web.api.bodies import ActingOnQueue, Discarding, Replaying
from perdure.surfaces.web.api.jobs import Cursor, FilterText, Limit
from perdure.surfaces.web.context import GivenIdentity, GivenStores
from perdure.surfaces.web.routing import acting, reading

Name = Annotated[str, Parameter(min_length=1, max_length=200)]
MaybeName = Annotated[str | None, Parameter(min_length=1, max_length=200)]
Minutes = Annotated[int, Parameter(ge=1, le=1_440)]
FlowLimit = Annotated[int, Parameter(ge=1, le=200)]


@reading("/queues", tag="queues", summary="List queues, or the one of a name")
async def list_queues(stores: GivenStores, name: MaybeName = None) -> tuple[QueueView, ...]:
    return await stores.read.queues(name)


@reading("/queues/rates", tag="queues", summary="What each queue got and finished in a second")
async def queue_rates(stores: GivenStores) -> tuple[QueueRate, ...]:
    return tuple(await stores.activity.queue_rates())


@acting("/queues/pause", Permission.PAUSE, tag="queues", summary="Let nobody claim from a queue")
async def pause_queue(
    stores: GivenStores, identity: GivenIdentity, data: JSONBody[ActingOnQueue]
) -> ActReport:
    return await stores.act.pause(data.queue, actor=identity.name, reason=data.reason, dry_run=data.dry_run)


@acting("/queues/resume", Permission.PAUSE, tag="queues", summary="Let a paused queue be claimed from again")
async def resume_queue(
    stores: GivenStores, identity: GivenIdentity, data: JSONBody[ActingOnQueue]
) -> ActReport:
    return await stores.act.resume(data.queue, actor=identity.name, reason=data.reason, dry_run=data.dry_run)


@reading("/dead-letters", tag="dead letters", summary="List dead letters, the newest first")
async def list_letters(
    stores: GivenStores, filter: FilterText = "", limit: Limit = 50, cursor: Cursor = None
) -> DeadLetterPage:
    return await stores.read.dead_letters(filter, limit=limit, cursor=cursor)


@reading("/dead-letters/groups", tag="dead letters", summary="Dead letters by cause, the largest group first")
async def list_groups(
    stores: GivenStores, filter: FilterText = "", limit: Limit = 50
) -> tuple[GroupView, ...]:
    return await stores.read.groups(filter, limit=limit)


@acting("/dead-letters/replay", Permission.REPLAY, tag="dead letters", summary="Give dead letters a new run")
async def replay_letters(
    stores: GivenStores, identity: GivenIdentity, data: JSONBody[Replaying]
) -> ActReport:
    return await stores.act.replay(
        _selection(data.job_id, data.filter),
        actor=identity.name,
        reason=data.reason,
        dry_run=data.dry_run,
        sample=data.sample,
        rate=data.rate,
    )


@acting("/dead-letters/discard", Permission.DISCARD, tag="dead letters", summary="Acknowledge dead letters")
async def discard_letters(
    stores: GivenStores, identity: GivenIdentity, data: JSONBody[Discarding]
) -> ActReport:
    selection = _selection(data.job_id, data.filter)
    return await stores.act.discard(selection, actor=identity.name, reason=data.reason, dry_run=data.dry_run)


@reading("/flows", tag="flows", summary="List flows, the newest first")
async def list_flows(stores: GivenStores, limit: FlowLimit = 20, cursor: Cursor = None) -> FlowPage:
    return await stores.flows.flows(limit=limit, cursor=cursor)


@reading("/events", tag="audit", summary="What was done by whom, the newest first")
async def list_events(
    stores: GivenStores,
    *,
    event: MaybeName = None,
    actor: MaybeName = None,
    queue: MaybeName = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> EventPage:
    choice = EventChoice(event=event, actor=actor, queue=queue)
    return await stores.activity.events(choice, limit=limit, cursor=cursor)


@reading("/status", tag="system", summary="The system on one screen, with a verdict")
async def get_status(stores: GivenStores) -> Verdict:
    view = await stores.read.status()
    state, reasons = judge(view)
    return Verdict(state=state, reasons=tuple(reasons), status=view)


@reading("/counts", tag="system", summary="How many jobs are in each state")
async def get_counts(stores: GivenStores) -> tuple[CountView, ...]:
    return await stores.read.counts()


@reading("/throughput", tag="system", summary="Jobs enqueued and attempts ended, minute by minute")
async def get_throughput(stores: GivenStores, minutes: Minutes = 60) -> ThroughputView:
    return await stores.activity.throughput(timedelta(minutes=minutes))


@reading("/autoscale", tag="system", summary="Depth and pace of a queue, for scalers that poll")
async def autoscale(stores: GivenStores, queue: Name) -> Autoscale:
    view = (await stores.read.queues(queue))[0]
    rates = {rate.queue: rate for rate in await stores.activity.queue_rates()}
    rate = rates.get(queue)
    return Autoscale(
        queue=queue,
        depth=view.depths.get(JobState.AVAILABLE, 0),
        oldest_s=view.oldest_available_s or 0.0,
        arriving_per_s=rate.arriving if rate else 0.0,
        finishing_per_s=rate.finishing if rate else 0.0,
        workers=view.workers,
    )


@reading("/filters/completions", tag="system", summary="What the last term of a filter may become")
async def complete_filter(text: FilterText = "") -> list[str]:
    return complete(text)


def _selection(job_id: UUID | None, filter: str | None) -> UUID | str:
    if (job_id is None) == (filter is None):
        raise InvalidOption("filter", "name one job by job_id, or many by a filter; not both and not neither")
    return job_id if job_id is not None else str(filter)


@reading(
    "/database",
    tag="system",
    summary="What threatens the database: open transactions, dead rows, connections, what an attempt costs in WAL",
)
async def get_pressure(stores: GivenStores) -> Pressure:
    return await stores.pressure.read()


HANDLERS = (
    list_queues,
    queue_rates,
    pause_queue,
    resume_queue,
    list_letters,
    list_groups,
    replay_letters,
    discard_letters,
    list_flows,
    list_events,
    get_pressure,
    get_status,
    get_counts,
    get_throughput,
    autoscale,
    complete_filter,
)
