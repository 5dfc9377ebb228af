"""Ends of attempts over HTTP: a worker loop outside of Python hands in what became of its lease."""

from uuid import UUID

from litestar.params import FromPath, JSONBody

from perdure.domain.access import Permission
from perdure.domain.errors import ClaimLost
from perdure.domain.lease import Lease, microseconds
from perdure.domain.settlement import Completed, Outcome, settle
from perdure.runtime.wiring import Stores
from perdure.surfaces.web.api.answers import SettledAnswer
from perdure.surfaces.web.api.bodies import Completing, Failing
from perdure.surfaces.web.context import GivenStores, GivenWeb
from perdure.surfaces.web.routing import acting

TAG = "work"
NOBODY = UUID(int=0)


@acting("/jobs/{job_id:uuid}/complete", Permission.WORK, tag=TAG, summary="Complete an attempt")
async def complete_job(
    web: GivenWeb, stores: GivenStores, job_id: FromPath[UUID], data: JSONBody[Completing]
) -> SettledAnswer:
    lease = await stores.leases.of_job(job_id, data.token)
    if lease is None:
        return await _settled_before(stores, job_id, data.token, frozenset({Outcome.COMPLETED}))
    await web.app.jobs.complete(lease, data.result)
    return SettledAnswer(job_id=job_id, settled="completed")


@acting(
    "/jobs/{job_id:uuid}/fail",
    Permission.WORK,
    tag=TAG,
    summary="Fail an attempt; it is retried or discarded",
)
async def fail_job(
    web: GivenWeb, stores: GivenStores, job_id: FromPath[UUID], data: JSONBody[Failing]
) -> SettledAnswer:
    lease = await stores.leases.of_job(job_id, data.token)
    if lease is None:
        return await _settled_before(stores, job_id, data.token, frozenset({Outcome.FAILED}))
    await web.app.jobs.fail(lease, data.error, retry_in=data.retry_in, give_up=data.give_up)
    return SettledAnswer(job_id=job_id, settled="failed")


async def _settled_before(
    stores: Stores, job_id: UUID, token: UUID, outcomes: frozenset[Outcome]
) -> SettledAnswer:
    """The answer of an earlier try of the same call; ClaimLost, with an event, when another one settled it."""
    detail = await stores.read.job(job_id)
    for attempt in detail.attempts:
        if attempt.token == token and attempt.outcome in outcomes:
            return SettledAnswer(job_id=job_id, settled=str(attempt.outcome))
    lease = Lease(
        job_id=job_id,
        token=token,
        lane=0,
        run=detail.job.run,
        attempt=1,
        crashes=0,
        interruptions=0,
        suspicion=0,
        args="",
        priority=detail.job.priority,
        max_attempts=detail.job.max_attempts,
        timeout_ms=None,
        crash_limit=None,
        available_us=microseconds(detail.job.enqueued_at),
        claimed_us=microseconds(detail.job.enqueued_at),
    )
    await stores.jobs.refuse([settle(lease, Completed())], NOBODY)
    raise ClaimLost(job_id)


HANDLERS = (complete_job, fail_job)
