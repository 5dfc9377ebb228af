"""Where claims begin to look: a full pass hides no job for long, and costs little where it costs much."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from perdure.ports import Scope
from perdure.stores.postgres.dispatch import PostgresDispatch, few_of, ring_for
from perdure.stores.postgres.watermarks import (
    AROUND_S,
    ENDLESS,
    FIRST_RANK,
    FULL_PASS_S,
    LONGEST_BETWEEN_FULL_PASSES_S,
    Watermarks,
)
from tests.support.database import Store, claimer, new_job
from tests.support.waiting import eventually

STREAMS = [(1, 0)]
ROW = {"lane": 1, "band": 0, "rank": 700}


class Looks:
    """Claims of one stream at moments in seconds; each gives whether it was a full pass."""

    def __init__(self) -> None:
        self.watermarks = Watermarks()
        self.now = 100.0

    def look(self, *, after: float, took: float, found: bool = True, full_takes: float | None = None) -> bool:
        self.now += after
        (floor,) = self.watermarks.floors(STREAMS, self.now).values()
        is_full = floor == FIRST_RANK
        rows: Sequence[Any] = [ROW] if found else []
        self.watermarks.looked(
            rows, self.watermarks.lowered, full_takes if is_full and full_takes is not None else took
        )
        return is_full


def test_a_cheap_full_pass_comes_each_second_and_after_each_empty_claim() -> None:
    looks = Looks()
    assert looks.look(after=0, took=0.02)
    assert [looks.look(after=0.3, took=0.02) for _ in range(4)] == [False, False, False, True]
    assert not looks.look(after=0.01, took=0.02, found=False)
    assert looks.look(after=0.01, took=0.02)


def test_a_full_pass_over_very_many_dead_rows_takes_a_twentieth_of_the_time_at_most() -> None:
    looks = Looks()
    looks.look(after=0, took=0.02)
    looks.look(after=0.1, took=0.02)
    assert looks.look(after=FULL_PASS_S, took=0.12)
    assert looks.look(after=FULL_PASS_S, took=0.12)
    spans, last = [], looks.now
    for turn in range(1_000):
        if looks.look(after=0.05, took=0.02, found=turn % 3 > 0, full_takes=0.12):
            spans.append(looks.now - last)
            last = looks.now
    assert len(spans) > 20
    assert min(spans) >= 2.0 - 0.06


def test_however_much_a_full_pass_costs_it_comes_every_minute() -> None:
    looks = Looks()
    looks.look(after=0, took=0.02)
    looks.look(after=0.1, took=0.02)
    assert looks.look(after=FULL_PASS_S, took=100.0)
    assert looks.look(after=FULL_PASS_S, took=100.0)
    assert not looks.look(after=LONGEST_BETWEEN_FULL_PASSES_S - 1, took=0.02)
    assert looks.look(after=1, took=0.02)


def test_a_slow_machine_is_not_taken_for_dead_rows() -> None:
    """There every claim takes long, a full pass no longer than others."""
    looks = Looks()
    looks.look(after=0, took=0.5)
    looks.look(after=0.1, took=0.5)
    assert looks.look(after=FULL_PASS_S, took=0.5)
    assert not looks.look(after=0.1, took=0.5, found=False)
    assert looks.look(after=0.1, took=0.5)


def test_one_full_pass_that_was_held_up_is_not_taken_for_dead_rows() -> None:
    looks = Looks()
    looks.look(after=0, took=0.02)
    looks.look(after=0.1, took=0.02)
    assert looks.look(after=FULL_PASS_S, took=5.0)
    assert looks.look(after=FULL_PASS_S, took=0.02)
    assert not looks.look(after=0.1, took=0.02, found=False)
    assert looks.look(after=0.1, took=0.02)


async def test_a_full_pass_of_one_group_of_kinds_is_none_of_another(store: Store) -> None:
    """A process claims for each group by itself: one that is fed steadily must not hide what another's claims passed over."""
    fed, other = (Scope(queues=("default",), kinds=(kind,)) for kind in ("app.fed", "app.other"))
    dispatch, me = PostgresDispatch(store.database), claimer()
    hidden = new_job("app.other")
    await store.add(new_job("app.other"))
    assert await dispatch.claim(me, other, limit=1)
    await store.add(hidden)
    await store.sql(f"UPDATE perdure.available_jobs SET rank = {FIRST_RANK} + 1 WHERE job_id = $1", hidden.id)

    async def found() -> bool:
        await store.add(new_job("app.fed"))
        assert await dispatch.claim(me, fed, limit=1)
        return any(lease.job_id == hidden.id for lease in await dispatch.claim(me, other, limit=1))

    assert await eventually(found, within_s=20)


MANY = [(lane, band) for lane in range(1, 41) for band in range(3)]


def head(lane: int, band: int, rank: int) -> Any:
    return {"lane": lane, "band": band, "rank": rank}


def around(watermarks: Watermarks, heads: Sequence[Any], now: float) -> dict[tuple[int, int], int]:
    """A look around that nothing is told of meanwhile."""
    watermarks.look_around()
    return dict(watermarks.looked_around(MANY, heads, now))


def test_streams_that_were_seen_empty_are_left_out_for_a_quarter_of_a_second() -> None:
    watermarks = Watermarks()
    assert around(watermarks, [head(3, 1, 70), head(9, 0, 50)], 100.0) == {(3, 1): 70, (9, 0): 50}
    watermarks.looked([head(9, 0, 55)], watermarks.lowered, 0.01)
    assert watermarks.occupied(MANY, 100.1) == {(3, 1): 70, (9, 0): 55}
    assert not watermarks.occupied(MANY, 100.0 + AROUND_S)


def test_a_stream_that_the_bell_tells_of_is_looked_at_at_once() -> None:
    watermarks = Watermarks()
    around(watermarks, [head(3, 1, 70)], 100.0)
    watermarks.looked([head(3, 1, 70)], watermarks.lowered, 0.01)
    watermarks.lower(5, 2, 40)
    assert watermarks.occupied(MANY, 100.1).keys() == {(3, 1), (5, 2)}
    watermarks.ring()
    assert not watermarks.occupied(MANY, 100.1)


def test_what_the_bell_tells_during_a_look_around_is_not_lost_with_its_answer() -> None:
    watermarks = Watermarks()
    watermarks.lower(1, 0, 10)
    watermarks.look_around()
    watermarks.lower(5, 2, 40)
    watermarks.lower(3, 1, 60)
    watermarks.lower(77, 1, 60)
    found = watermarks.looked_around(MANY, [head(3, 1, 70)], 100.0)
    assert found == {(3, 1): 60, (5, 2): 40}
    assert watermarks.occupied(MANY, 100.1).keys() == {(3, 1), (5, 2)}


def test_a_lane_that_is_new_is_looked_at_at_once() -> None:
    watermarks = Watermarks()
    around(watermarks, [head(3, 1, 70)], 100.0)
    watermarks.looked([head(3, 1, 70)], watermarks.lowered, 0.01)
    assert watermarks.occupied([*MANY, (41, 0)], 100.1).keys() == {(3, 1), (41, 0)}


def test_an_empty_or_failed_claim_looks_around_again() -> None:
    watermarks = Watermarks()
    around(watermarks, [head(3, 1, 70)], 100.0)
    watermarks.looked([], watermarks.lowered, 0.01)
    assert not watermarks.occupied(MANY, 100.1)
    watermarks.looked([head(3, 1, 70)], watermarks.lowered, 0.01)
    assert watermarks.occupied(MANY, 100.1)
    watermarks.failed()
    assert not watermarks.occupied(MANY, 100.1)


def test_a_claim_takes_from_the_streams_that_begin_first() -> None:
    watermarks = Watermarks()
    floors = {(lane, 0): 1000 - lane for lane in range(1, 11)}
    watermarks.looked([head(10, 0, 990)], watermarks.lowered, 0.01)
    nearest, below = watermarks.nearest(floors)
    assert (set(nearest.values()), below) == ({990, 991, 992, 993}, 994)
    watermarks.looked([head(lane, 0, 995) for lane in range(5, 9)], watermarks.lowered, 0.01)
    assert watermarks.nearest(floors) == (floors, ENDLESS)


@pytest.mark.parametrize("limit", [1, 7, 100, 300])
@pytest.mark.parametrize("streams", [1, 4, 5, 30, 300])
def test_a_claim_reads_a_few_rows_of_each_stream_and_never_none(streams: int, limit: int) -> None:
    few = few_of(streams, limit)
    assert 1 <= few <= limit
    assert streams * few + (limit // few) * limit <= 2 * limit * (streams**0.5) + streams + limit


@pytest.mark.parametrize("seed", range(4))
async def test_many_streams_are_emptied_in_the_order_of_the_ranks(store: Store, seed: int) -> None:
    """However the jobs lie in forty lanes of three bands, and whatever becomes available while they are claimed."""
    random = Random(seed)
    kinds = [f"app.kind{number}" for number in range(40)]
    scope = Scope(queues=("default",), kinds=tuple(kinds))
    dispatch, me = PostgresDispatch(store.database), claimer()

    async def add(count: int) -> None:
        """Some at once of one kind, or each of another."""
        some = random.choice((kinds, kinds[:3], random.sample(kinds, 1)))
        jobs = [new_job(random.choice(some), priority=random.choice((1, 3, 5))) for _ in range(count)]
        dispatch.hear(ring_for(await store.add(*jobs)))

    for _ in range(6):
        await add(random.choice((1, 30, 200)))
    gained = 0
    while rows := await store.sql("SELECT job_id FROM perdure.available_jobs ORDER BY rank, job_id"):
        limit = random.choice((1, 5, 60, 150))
        leases = await dispatch.claim(me, scope, limit=limit)
        assert [lease.job_id for lease in leases] == [row["job_id"] for row in rows[:limit]]
        gained += len(leases)
        if gained < 3000 and random.random() < 0.4:
            await add(random.choice((1, 30)))
    assert gained > 100
