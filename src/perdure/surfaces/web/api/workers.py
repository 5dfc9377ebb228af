"""Workers over HTTP: register a loop of one's own, beat, acquire, and see or drain any worker."""

from typing import Annotated
from uuid import UUID

from litestar.params import FromPath, JSONBody, Parameter

from perdure.domain.access import Permission
from perdure.domain.activity import EventSubject
from perdure.domain.bounds import checked_labels, checked_name
from perdure.domain.views import ActReport, WorkerView
from perdure.ports import By
from perdure.surfaces.web.api.answers import (
    HealthAnswer,
    HeartbeatAnswer,
    LeaseAnswer,
    RegisteredAnswer,
    StopRequest,
)
from perdure.surfaces.web.api.bodies import Acquiring, Acting, Registering
from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.routing import acting, reading

TAG = "workers"
All = Annotated[bool, Parameter(description="Those that have ended, too")]


@reading("/workers", tag=TAG, summary="List workers, the newest first")
async def list_workers(stores: GivenStores, all: All = False) -> tuple[WorkerView, ...]:
    return await stores.read.workers(alive_only=not all)


@acting("/workers", Permission.WORK, tag=TAG, summary="Register a worker loop of one's own", status=201)
async def register_worker(
    web: GivenWeb, stores: GivenStores, identity: GivenIdentity, data: JSONBody[Registering]
) -> RegisteredAnswer:
    worker_id = await web.app.workers.register(
        kinds=[checked_name(kind, "kinds") for kind in data.kinds],
        queues=[checked_name(queue, "queues") for queue in data.queues],
        labels=checked_labels(data.labels),
        capacity=data.capacity,
        name=checked_name(data.name, "name") if data.name else f"http-{identity.name}"[:200],
        type="http",
    )
    await stores.activity.record(
        "worker_registered", By(actor=identity.name), EventSubject(worker_id=worker_id)
    )
    return RegisteredAnswer(worker_id=worker_id)


@reading("/workers/{worker_id:uuid}", tag=TAG, summary="One worker")
async def get_worker(stores: GivenStores, worker_id: FromPath[UUID]) -> WorkerView:
    return await stores.read.worker(worker_id)


@reading("/workers/{worker_id:uuid}/health", tag=TAG, summary="How a worker does")
async def worker_health(web: GivenWeb, worker_id: FromPath[UUID]) -> HealthAnswer:
    health = await web.app.workers.health(worker_id)
    return HealthAnswer(
        worker_id=health.worker_id,
        state=str(health.state),
        suspect=health.suspect,
        silent_s=health.silent_for.total_seconds(),
        load=health.load,
        running=health.running,
    )


@acting("/workers/{worker_id:uuid}/heartbeat", Permission.WORK, tag=TAG, summary="Say that a worker lives")
async def heartbeat(web: GivenWeb, worker_id: FromPath[UUID]) -> HeartbeatAnswer:
    asked = await web.app.workers.heartbeat(worker_id)
    return HeartbeatAnswer(cancel=tuple(StopRequest(job_id=job_id, token=token) for job_id, token in asked))


@acting("/workers/{worker_id:uuid}/acquire", Permission.WORK, tag=TAG, summary="Lease jobs for a worker")
async def acquire_jobs(
    web: GivenWeb, worker_id: FromPath[UUID], data: JSONBody[Acquiring]
) -> tuple[LeaseAnswer, ...]:
    leases = await web.app.jobs.acquire(worker_id, limit=data.limit, wait=data.wait)
    return tuple(map(LeaseAnswer.of, leases))


@acting("/workers/{worker_id:uuid}/drain", Permission.DRAIN, tag=TAG, summary="Let a worker finish and end")
async def drain_worker(
    stores: GivenStores, identity: GivenIdentity, worker_id: FromPath[UUID], data: JSONBody[Acting]
) -> ActReport:
    return await stores.act.drain(worker_id, actor=identity.name, reason=data.reason, dry_run=data.dry_run)


HANDLERS = (
    list_workers,
    register_worker,
    get_worker,
    worker_health,
    heartbeat,
    acquire_jobs,
    drain_worker,
)
