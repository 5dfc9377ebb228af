"""Jobs that wait for others: how their parents' ends let them go, hold them or cancel them, and how priority passes on."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from perdure.domain.errors import DependencyCycle, DependencyTooDeep, UnknownParent
from perdure.domain.job import Dependency, Disposition, NewJob, OnParentFailure, UniqueRule
from perdure.domain.settlement import Cancelled
from tests.support.database import Store, after, failure, new_job

HOLD, CANCEL, RUN = OnParentFailure.HOLD, OnParentFailure.CANCEL, OnParentFailure.RUN


@pytest.mark.parametrize("together", [True, False], ids=["one call", "a call each"])
@pytest.mark.parametrize("parents", [1, 2, 5])
async def test_a_child_starts_when_all_its_parents_have_completed(
    store: Store, parents: int, together: bool
) -> None:
    before = [new_job() for _ in range(parents)]
    child = after(*before)
    if together:
        await store.add(child, *before)
    else:
        await store.add(*before)
        await store.add(child)
    released: list[UUID] = []
    for parent in before:
        assert await store.state(child.id) == "pending"
        settled = await store.finish(parent)
        released = [place.job_id for place in settled.released]
    assert released == [child.id]
    assert await store.state(child.id) == "available"


async def test_parents_that_end_together_release_their_child_once(store: Store) -> None:
    parents = [new_job() for _ in range(10)]
    child = after(*parents)
    await store.add(*parents, child)
    leases = await store.claim(10)
    settled = await store.end(leases)
    assert [place.job_id for place in settled.released] == [child.id]


async def test_parents_that_end_at_once_in_many_transactions_release_their_child_once(store: Store) -> None:
    for _ in range(10):
        parents = [new_job() for _ in range(8)]
        child = after(*parents)
        await store.add(*parents, child)
        leases = await store.claim(8)
        settled = await asyncio.gather(*(store.end([lease]) for lease in leases))
        assert [place.job_id for each in settled for place in each.released] == [child.id]
        assert await store.drain() == [child.id]


async def test_a_chain_runs_in_its_order(store: Store) -> None:
    chain = [new_job()]
    for _ in range(9):
        chain.append(after(chain[-1]))
    await store.add(*reversed(chain))
    assert await store.drain() == [job.id for job in chain]


async def test_a_diamond_waits_for_both_sides(store: Store) -> None:
    top = new_job()
    left, right = after(top), after(top)
    bottom = after(left, right)
    await store.add(top, left, right, bottom)
    order = await store.drain()
    assert (order[0], order[3]) == (top.id, bottom.id)
    assert await store.value("SELECT depth FROM perdure.jobs WHERE id = $1", bottom.id) == 2


async def test_a_child_of_parents_that_have_completed_starts_at_once(store: Store) -> None:
    parent = new_job()
    await store.add(parent)
    await store.finish(parent)
    child = after(parent)
    (place,) = await store.add(child)
    assert place.job_id == child.id
    assert await store.state(child.id) == "available"


async def test_a_child_with_a_delay_waits_for_parents_and_for_its_time(store: Store) -> None:
    parent = new_job()
    child = after(parent, run_at=datetime(2120, 1, 1, tzinfo=UTC))
    await store.add(parent, child)
    assert await store.state(child.id) == "pending"
    assert (await store.finish(parent)).released == []
    assert await store.state(child.id) == "scheduled"


@pytest.mark.parametrize(
    ("own", "parents", "inherits", "expected"),
    [
        (3, [5], True, 5),
        (4, [2], True, 4),
        (2, [5], False, 2),
        (1, [2, 4, 3], True, 4),
    ],
    ids=["inherits", "keeps its own higher one", "opts out", "takes the highest"],
)
@pytest.mark.parametrize("together", [True, False], ids=["one call", "a call each"])
async def test_priority_passes_from_parents_to_children(
    store: Store, own: int, parents: list[int], inherits: bool, expected: int, together: bool
) -> None:
    before = [new_job(priority=priority) for priority in parents]
    child = after(*before, priority=own, inherit_priority=inherits)
    if together:
        await store.add(*before, child)
    else:
        await store.add(*before)
        await store.add(child)
    assert await store.value("SELECT priority FROM perdure.jobs WHERE id = $1", child.id) == expected
    assert await store.value("SELECT priority FROM perdure.blocked_jobs") == expected


async def test_priority_passes_down_a_chain_of_one_call(store: Store) -> None:
    first = new_job(priority=5)
    second = after(first, priority=1)
    third = after(second, priority=2)
    fourth = after(third, priority=1, inherit_priority=False)
    await store.add(fourth, third, second, first)
    rows = await store.sql("SELECT id, priority FROM perdure.jobs")
    priorities = {row["id"]: row["priority"] for row in rows}
    assert [priorities[job.id] for job in (first, second, third, fourth)] == [5, 5, 5, 1]


@pytest.mark.parametrize("ending", [failure(give_up=True), Cancelled()], ids=["discarded", "cancelled"])
@pytest.mark.parametrize(("policy", "state"), [(HOLD, "pending"), (CANCEL, "cancelled"), (RUN, "available")])
async def test_a_failed_parent_does_what_the_edge_says(
    store: Store, ending: Cancelled, policy: OnParentFailure, state: str
) -> None:
    parent = new_job()
    child = after(parent, on_failure=policy)
    await store.add(parent, child)
    await store.finish(parent, ending)
    assert await store.state(child.id) == state
    late = after(parent, on_failure=policy)
    await store.add(late)
    assert await store.state(late.id) == state


async def test_a_retry_is_no_failure(store: Store) -> None:
    parent = new_job()
    child = after(parent, on_failure=CANCEL)
    await store.add(parent, child)
    await store.finish(parent, failure())
    assert await store.state(child.id) == "pending"


async def test_cancelling_goes_down_the_tree_as_far_as_the_edges_say(store: Store) -> None:
    top = new_job()
    child = after(top, on_failure=CANCEL, unique=UniqueRule(key="u"))
    grandchild = after(child, on_failure=CANCEL)
    held, goes_on = after(grandchild, on_failure=HOLD), after(grandchild, on_failure=RUN)
    await store.add(top, child, grandchild, held, goes_on)
    settled = await store.finish(top, failure(give_up=True))
    assert [place.job_id for place in settled.released] == [goes_on.id]
    assert await store.states(child, grandchild, held, goes_on) == [
        "cancelled",
        "cancelled",
        "pending",
        "available",
    ]
    rows = await store.sql(
        "SELECT job_id, cause FROM perdure.job_executions WHERE state = 'cancelled' ORDER BY job_id"
    )
    assert [(row["job_id"], row["cause"]) for row in rows] == [
        (child.id, "a parent ended discarded"),
        (grandchild.id, "a parent ended cancelled"),
    ]
    assert await store.value("SELECT count(*) FROM perdure.unique_keys") == 0


async def test_a_cancelled_child_stays_so_when_its_other_parents_complete(store: Store) -> None:
    failing, completing = new_job(), new_job()
    edges = (
        Dependency(parent_id=failing.id, on_failure=CANCEL),
        Dependency(parent_id=completing.id, on_failure=HOLD),
    )
    child = new_job(depends_on=edges)
    await store.add(failing, completing, child)
    await store.finish(failing, failure(give_up=True))
    assert (await store.finish(completing)).released == []
    assert await store.state(child.id) == "cancelled"


async def refused(store: Store, error: type[Exception], *jobs: NewJob) -> Exception:
    """Enqueue, be refused, and see that nothing at all was written."""
    before = await store.counts()
    with pytest.raises(error) as refusal:
        await store.jobs.enqueue(jobs)
    assert await store.counts() == before
    return refusal.value


async def test_a_circle_is_refused_by_name(store: Store) -> None:
    one = new_job()
    two = after(one)
    three = after(two)
    one = replace(one, depends_on=after(three).depends_on)
    outside, beyond = new_job(), after(two)
    error = await refused(store, DependencyCycle, outside, beyond, one, two, three)
    assert isinstance(error, DependencyCycle)
    assert error.job_ids[0] == error.job_ids[-1]
    assert set(error.job_ids) == {one.id, two.id, three.id}


async def test_a_job_that_waits_for_itself_is_refused(store: Store) -> None:
    job = new_job()
    error = await refused(store, DependencyCycle, replace(job, depends_on=after(job).depends_on))
    assert isinstance(error, DependencyCycle)
    assert error.job_ids == (job.id, job.id)


async def test_an_unknown_parent_is_refused_by_name(store: Store) -> None:
    known, unknown = new_job(), new_job()
    await store.add(known)
    error = await refused(store, UnknownParent, new_job(), after(known), after(known, unknown))
    assert isinstance(error, UnknownParent)
    assert error.parent_id == unknown.id


async def test_a_chain_of_500_is_the_longest(store: Store) -> None:
    chain = [new_job()]
    for _ in range(500):
        chain.append(after(chain[-1]))
    await store.add(*chain)
    await refused(store, DependencyTooDeep, after(chain[-1]))
    other = new_job()
    await refused(store, DependencyTooDeep, other, *long_chain(other))


def long_chain(first: NewJob) -> list[NewJob]:
    chain = [first]
    for _ in range(501):
        chain.append(after(chain[-1]))
    return chain[1:]


async def test_no_edge_can_be_written_that_would_close_a_circle(store: Store) -> None:
    parent = new_job()
    child = after(parent)
    await store.add(parent, child)
    with pytest.raises(asyncpg.PostgresError, match="deeper"):
        await store.sql(
            "INSERT INTO perdure.job_dependencies (child_id, parent_id) VALUES ($1, $2)", parent.id, child.id
        )


async def test_a_parent_refused_for_its_key_is_stood_in_for_by_the_holder(store: Store) -> None:
    holder = new_job(unique=UniqueRule(key="u"))
    await store.add(holder)
    refused_parents = [new_job(unique=UniqueRule(key="u")) for _ in range(2)]
    child = after(*refused_parents)
    answers = await store.jobs.enqueue([*refused_parents, child], on_duplicate="return")
    assert [answer.disposition for answer in answers] == [
        Disposition.DUPLICATE,
        Disposition.DUPLICATE,
        Disposition.CREATED,
    ]
    assert await store.value("SELECT parent_id FROM perdure.job_dependencies") == holder.id
    await store.finish(holder)
    assert await store.state(child.id) == "available"


async def test_a_parent_named_twice_counts_once(store: Store) -> None:
    parent = new_job()
    child = after(parent, parent)
    await store.add(parent, child)
    await store.finish(parent)
    assert await store.state(child.id) == "available"
