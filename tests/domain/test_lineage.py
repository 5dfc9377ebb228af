"""What is remembered of a database, and how a look is judged by it."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.lineage import Continuity, Memory, Recollection, Sighting, judge

HERE, ELSEWHERE = UUID(int=1), UUID(int=2)
MEMORY = Memory(
    installation=HERE,
    epoch=2,
    system=7,
    timeline=3,
    flushed=1000,
    stretch=UUID(int=9),
    mark=50,
    at=datetime(2030, 1, 1, tzinfo=UTC),
)
SAME = Sighting(
    installation=HERE,
    epoch=2,
    system=7,
    timeline=3,
    flushed=1000,
    stretch=UUID(int=9),
    mark=50,
    reached=50,
)


@pytest.mark.parametrize(
    ("changes", "continuity"),
    [
        ({}, Continuity.CONTINUES),
        ({"flushed": 2000, "reached": 60, "mark": 60}, Continuity.CONTINUES),
        ({"stretch": ELSEWHERE, "mark": 0}, Continuity.CONTINUES),
        ({"flushed": 999}, Continuity.BROKEN),
        ({"reached": 49, "flushed": 2000}, Continuity.BROKEN),
        ({"reached": None, "flushed": 2000}, Continuity.BROKEN),
        ({"timeline": 4, "flushed": 10}, Continuity.FAILED_OVER),
        ({"timeline": 4, "reached": 49}, Continuity.BROKEN),
        ({"timeline": 2, "flushed": 2000}, Continuity.BROKEN),
        ({"system": 8}, Continuity.BROKEN),
        ({"missing": (HERE,), "flushed": 2000}, Continuity.BROKEN),
        ({"epoch": 1, "flushed": 2000}, Continuity.BROKEN),
        ({"epoch": 3, "reached": None, "system": 8, "missing": (HERE,)}, Continuity.ADOPTED),
        ({"epoch": 3, "halted": "why"}, Continuity.HALTED),
        ({"epoch": 1, "halted": "why"}, Continuity.BROKEN),
        ({"installation": ELSEWHERE, "epoch": 1, "reached": None, "system": 8}, Continuity.FOREIGN),
    ],
)
def test_a_look_is_judged_by_what_is_remembered(changes: dict[str, object], continuity: Continuity) -> None:
    assert judge(MEMORY, replace(SAME, **changes)).continuity is continuity  # type: ignore[arg-type]


def test_who_remembers_nothing_goes_on_unless_the_system_is_halted() -> None:
    assert judge(None, SAME).continuity is Continuity.CONTINUES
    assert judge(None, replace(SAME, halted="why")).continuity is Continuity.HALTED


def test_a_move_is_not_called_a_rollback() -> None:
    assert "rollback" not in judge(MEMORY, replace(SAME, system=8)).why
    assert "rollback detected" in judge(MEMORY, replace(SAME, reached=1)).why


@given(
    ahead=st.integers(0, 10**12),
    marks=st.integers(0, 10**6),
    timelines=st.integers(0, 5),
    stretch=st.uuids(),
)
def test_a_database_that_only_went_on_is_never_accused(
    ahead: int, marks: int, timelines: int, stretch: UUID
) -> None:
    """However far it went on, and through however many failovers that lost nothing."""
    seen = replace(
        SAME,
        flushed=1000 + ahead if not timelines else ahead,
        reached=50 + marks,
        timeline=3 + timelines,
        stretch=stretch,
    )
    assert judge(MEMORY, seen).continuity in (Continuity.CONTINUES, Continuity.FAILED_OVER)


@given(
    groups=st.lists(st.lists(st.uuids(), min_size=1, max_size=5), max_size=20),
    most=st.integers(5, 20),
    wanted=st.integers(1, 12),
)
def test_a_recollection_keeps_the_newest(groups: list[list[UUID]], most: int, wanted: int) -> None:
    recollection = Recollection(most)
    for group in groups:
        recollection.note(group)
    every = [one for group in groups for one in group]
    kept = recollection.all()
    assert kept == every[len(every) - len(kept) :]
    assert min(len(every), most - 4) <= len(kept) <= most
    assert recollection.newest(wanted) == kept[-wanted:]
