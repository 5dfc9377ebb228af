"""What the model holds and remembers, as the records by which the promises are judged."""

from perdure.domain.history import Body, Edge, Letter, Past, Standing, UniqueKey
from perdure.domain.job import JobState
from tests.support.model_job import Job
from tests.support.model_store import ModelStore, held_of, moment

PLACES = {
    JobState.PENDING: "blocked",
    JobState.SCHEDULED: "scheduled",
    JobState.RETRYABLE: "scheduled",
    JobState.AVAILABLE: "available",
}


def past_of(store: ModelStore) -> Past:
    standing = [
        Standing(
            job_id=job_id, place="parked" if job.parked else PLACES[job.state], state=job.state, run=job.run,
            attempt=job.failures, crashes=job.crashes, interruptions=job.interruptions,
            run_at=moment(job.due) if job.due > store.now else None, waiting=store.waiting_for(job_id),
        )
        for job_id, job in store.jobs.items() if job.state in PLACES
    ]  # fmt: skip
    return Past(
        taken_at=moment(store.now),
        bodies=[_body(job, store.enqueued_at[job_id]) for job_id, job in store.jobs.items()],
        standing=standing,
        held=[*store.ended, *(held_of(row, store.jobs[job_id].key) for job_id, row in store.leases.items())],
        edges=[
            Edge(child_id=child, parent_id=parent, on_failure=policy, state=state)
            for (child, parent), (policy, state) in store.edges.items()
        ],
        keys=[UniqueKey(key=key, job_id=job_id) for key, job_id in store.keys.items()],
        letters=[Letter(job_id=job_id, run=job.run) for job_id, job in store.jobs.items() if job.letter],
        events=store.events,
    )


def _body(job: Job, enqueued_at: int) -> Body:
    new = job.new
    return Body(
        job_id=new.id, enqueued_at=moment(enqueued_at), max_attempts=new.shape.max_attempts, crash_limit=new.shape.crash_limit,
        unique_key=new.unique.key if new.unique else None,
        unique_states=new.unique.states if new.unique else frozenset(),
        concurrency_key=new.concurrency_key,
        concurrency_limit=new.concurrency_limit if new.concurrency_key else None,
    )  # fmt: skip
