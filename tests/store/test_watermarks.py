"""Where claims begin to look: a full pass hides no job for long, and costs little where it costs much."""

from collections.abc import Sequence
from typing import Any

from perdure.ports import Scope
from perdure.stores.postgres.dispatch import (
    FIRST_RANK,
    FULL_PASS_S,
    LONGEST_BETWEEN_FULL_PASSES_S,
    PostgresDispatch,
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
        (floor,) = self.watermarks.floors(STREAMS, self.now)
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


def test_however_much_a_full_pass_costs_it_comes_every_ten_seconds() -> None:
    looks = Looks()
    looks.look(after=0, took=0.02)
    looks.look(after=0.1, took=0.02)
    assert looks.look(after=FULL_PASS_S, took=60.0)
    assert looks.look(after=FULL_PASS_S, took=60.0)
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
