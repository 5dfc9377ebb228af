"""Jobs over HTTP: create, look at, acquire, settle, cancel and retry them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from litestar.params import FromPath, HeaderParameter, JSONBody, Parameter
from msgspec import structs

from perdure.domain.access import Permission
from perdure.domain.activity import EventSubject
from perdure.domain.bounds import checked_labels, checked_moment, checked_name, checked_timeout
from perdure.domain.durations import parse_duration
from perdure.domain.errors import DependencyCycle, InvalidOption
from perdure.domain.explain import Explanation
from perdure.domain.flow import FlowView
from perdure.domain.job import LIVE, Dependency, JobId, NewJob, OnParentFailure, Shape, UniqueRule
from perdure.domain.payload import check_storable, encode_plain
from perdure.domain.views import ActReport, JobDetail, JobPage
from perdure.ports import By
from perdure.runtime.new_ids import new_id
from perdure.surfaces.web.api.answers import EnqueuedAnswer
from perdure.surfaces.web.api.bodies import Acting, ActingOnMany, Enqueueing
from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.routing import acting, reading

TAG = "jobs"
FilterText = Annotated[
    str, Parameter(description="Filter language, such as `state:failed kind:send*`", max_length=2_000)
]
Limit = Annotated[int, Parameter(ge=1, le=1_000)]
Cursor = Annotated[str | None, Parameter(description="`cursor` of the page before", max_length=500)]
TraceParent = Annotated[
    str | None,
    HeaderParameter(name="traceparent", description="Trace context of the caller (W3C), kept with the job"),
]
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@reading("/jobs", tag=TAG, summary="List jobs, the newest first")
async def list_jobs(
    stores: GivenStores, filter: FilterText = "", limit: Limit = 50, cursor: Cursor = None
) -> JobPage:
    return await stores.read.jobs(filter, limit=limit, cursor=cursor)


@acting("/jobs", Permission.ENQUEUE, tag=TAG, summary="Enqueue a job", status=201)
async def create_job(
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    data: JSONBody[Enqueueing],
    traceparent: TraceParent = None,
) -> EnqueuedAnswer:
    job = new_job(data, most=web.settings.max_payload_bytes)
    if web.settings.tracing != "off" and traceparent and TRACEPARENT.fullmatch(traceparent):
        job = structs.replace(job, metadata={"traceparent": traceparent, **job.metadata})
    if data.dry_run:
        return EnqueuedAnswer(job_id=job.id, disposition="dry_run", dry_run=True)
    enqueued = await (await web.enqueue()).one(job, on_duplicate=data.on_duplicate)
    subject = EventSubject(job_id=enqueued.job_id, queue=job.shape.queue, detail={"kind": job.shape.kind})
    await stores.activity.record("enqueued", By(actor=identity.name), subject)
    return EnqueuedAnswer.of(enqueued)


@reading("/jobs/{job_id:uuid}", tag=TAG, summary="One job in full")
async def get_job(stores: GivenStores, job_id: FromPath[UUID]) -> JobDetail:
    return await stores.read.job(job_id)


@reading("/jobs/{job_id:uuid}/explanation", tag=TAG, summary="Why a job is not running, in sentences")
async def explain_job(stores: GivenStores, job_id: FromPath[UUID]) -> Explanation:
    return await stores.read.explain(job_id)


@reading("/jobs/{job_id:uuid}/flow", tag=TAG, summary="The jobs that hang together with one")
async def get_flow(stores: GivenStores, job_id: FromPath[UUID]) -> FlowView:
    return await stores.flows.flow(job_id)


@acting("/jobs/{job_id:uuid}/cancel", Permission.CANCEL, tag=TAG, summary="Cancel a job")
async def cancel_job(
    stores: GivenStores, identity: GivenIdentity, job_id: FromPath[UUID], data: JSONBody[Acting]
) -> ActReport:
    return await stores.act.cancel(job_id, actor=identity.name, reason=data.reason, dry_run=data.dry_run)


@acting("/jobs/{job_id:uuid}/retry", Permission.RETRY, tag=TAG, summary="Retry a job")
async def retry_job(
    stores: GivenStores, identity: GivenIdentity, job_id: FromPath[UUID], data: JSONBody[Acting]
) -> ActReport:
    return await stores.act.retry(job_id, actor=identity.name, reason=data.reason, dry_run=data.dry_run)


@acting("/jobs/cancel", Permission.CANCEL, tag=TAG, summary="Cancel all jobs that match a filter")
async def cancel_jobs(
    stores: GivenStores, identity: GivenIdentity, data: JSONBody[ActingOnMany]
) -> ActReport:
    return await stores.act.cancel_matching(
        data.filter, actor=identity.name, reason=data.reason, dry_run=data.dry_run, most=data.most
    )


@acting("/jobs/retry", Permission.RETRY, tag=TAG, summary="Retry all failed jobs that match a filter")
async def retry_jobs(stores: GivenStores, identity: GivenIdentity, data: JSONBody[ActingOnMany]) -> ActReport:
    return await stores.act.retry_matching(
        data.filter, actor=identity.name, reason=data.reason, dry_run=data.dry_run, most=data.most
    )


def new_job(body: Enqueueing, *, most: int) -> NewJob:
    """The job that a body describes. Raises InvalidOption, InvalidArguments or PayloadTooLarge."""
    if body.delay is not None and body.run_at is not None:
        raise InvalidOption("run_at", "give a delay or a time, not both")
    job_id = new_id() if body.id is None else JobId(body.id)
    if job_id in body.depends_on:
        raise DependencyCycle([job_id, job_id])
    check_storable(body.args)
    return NewJob(
        id=job_id,
        shape=Shape(
            queue=checked_name(body.queue, "queue"),
            kind=checked_name(body.kind, "kind"),
            priority=body.priority,
            max_attempts=body.retries + 1,
            timeout=checked_timeout(body.timeout),
            labels=checked_labels(body.labels),
        ),
        args=encode_plain(dict(body.args), "args", max_bytes=most),
        run_at=None if body.run_at is None else checked_moment(body.run_at, "run_at"),
        delay=None if body.delay is None else parse_duration(body.delay, "delay"),
        depends_on=tuple(
            Dependency(parent_id=JobId(parent), on_failure=OnParentFailure(body.on_parent_failure))
            for parent in dict.fromkeys(body.depends_on)
        ),
        unique=_unique(body),
        concurrency_key=body.concurrency_key and checked_name(body.concurrency_key, "concurrency_key"),
        concurrency_limit=body.concurrency_limit,
        metadata=_metadata(body.metadata, most),
    )


def _metadata(value: Mapping[str, Any], most: int) -> Mapping[str, Any]:
    encode_plain(dict(value), "metadata", max_bytes=most)
    return value


def _unique(body: Enqueueing) -> UniqueRule | None:
    if body.unique_key is None:
        if body.unique_for is not None:
            raise InvalidOption("unique_for", "needs a unique_key")
        return None
    rule = UniqueRule(key=checked_name(body.unique_key, "unique_key"), states=LIVE)
    return (
        rule
        if body.unique_for is None
        else replace(rule, period=parse_duration(body.unique_for, "unique_for"))
    )


HANDLERS = (
    list_jobs,
    create_job,
    get_job,
    explain_job,
    get_flow,
    cancel_job,
    retry_job,
    cancel_jobs,
    retry_jobs,
)
