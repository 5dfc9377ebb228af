"""The filter language: what it means, where it refuses, and that its text and its tree are the same thing."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.criteria import ATTEMPT_MAX, Criteria, compile_filter
from perdure.domain.errors import InvalidFilter
from perdure.domain.filters import (
    ARGS,
    FIELDS,
    WORD,
    Filter,
    Operator,
    Term,
    Value,
    complete,
    format_filter,
    parse,
)
from perdure.domain.job import JobState

WHOLE = (
    "state:failed,running kind:embed* queue:media worker:w7 priority:>=4 args.user_id:42 args.size.width:>600"
    ' error~timeout since:2h until:2026-11-23T12:00 label:gpu key:customer-1 fingerprint:ab12 -kind:"a b" attempt:2'
    ' "two words" app.resize -foo args."we ird"."x.y":"a,\\"b" id:0197a0d8-9a2b-7c00-8000-000000000001'
)

fitting = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
bare = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)
texts = st.text(fitting, max_size=8)
values = st.builds(Value, text=texts, quoted=st.just(True)) | st.builds(
    Value, text=bare, quoted=st.just(False)
)


@st.composite
def terms(draw: st.DrawFn) -> Term:
    field = draw(st.sampled_from([*FIELDS, WORD]))
    operator = Operator.CONTAINS if field == WORD else draw(st.sampled_from(sorted(FIELDS[field])))
    return Term(
        field=field,
        operator=operator,
        values=tuple(draw(st.lists(values, min_size=1, max_size=3))),
        path=tuple(draw(st.lists(texts, min_size=1, max_size=3))) if field == ARGS else (),
        negated=draw(st.booleans()),
    )


def compiled(text: str) -> Criteria:
    return compile_filter(parse(text))


@given(st.builds(Filter, terms=st.lists(terms(), max_size=4).map(tuple)))
def test_a_formatted_filter_is_read_back_as_itself(filter: Filter) -> None:
    assert parse(format_filter(filter)) == filter


@given(st.text(max_size=60) | st.text('astekind:~.,"-\\* 1', max_size=40))
def test_no_text_does_worse_than_to_be_refused(text: str) -> None:
    complete(text)
    try:
        tree = parse(text)
        compile_filter(tree)
    except InvalidFilter as error:
        message = error.message
    else:
        message = "no column" if parse(format_filter(tree)) == tree else ""
    assert "column" in message


def test_every_field_is_understood_at_once() -> None:
    tree = parse(WHOLE)
    assert format_filter(tree) == WHOLE
    criteria = compile_filter(tree)
    assert criteria.states == {JobState.RETRYABLE, JobState.DISCARDED, JobState.RUNNING}
    assert criteria.priorities == {4, 5}
    assert criteria.since == timedelta(hours=2)
    assert criteria.until == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert criteria.ids == frozenset({UUID("0197a0d8-9a2b-7c00-8000-000000000001")})
    assert [clause.field for clause in criteria.lanes] == ["kind", "queue", "label", "kind"]


def test_failed_means_that_the_last_attempt_failed() -> None:
    assert compiled("state:failed").states == {JobState.RETRYABLE, JobState.DISCARDED}
    assert compiled("-state:failed,completed").states == {
        JobState.PENDING,
        JobState.SCHEDULED,
        JobState.AVAILABLE,
        JobState.RUNNING,
        JobState.CANCELLED,
    }


def test_terms_on_one_field_must_all_hold() -> None:
    assert compiled("state:failed state:running").states == frozenset()
    assert compiled("priority:>1 -priority:3").priorities == {2, 4, 5}


def test_only_a_bare_star_stands_for_any_text() -> None:
    (wild, exact) = compiled('kind:a*_% kind:"a*"').lanes
    assert wild.patterns == ("a%\\_\\%",)
    assert exact.patterns == ("a*",)


@pytest.mark.parametrize(
    ("text", "column", "step"),
    [
        ("kind:x stat:failed", 8, "did you mean state?"),
        ("kind:x state:faild", 8, "did you mean failed?"),
        ("kind:", 6, ""),
        ('kind:"never', 6, ""),
        ('a"b', 2, ""),
        ("args:1", 5, "write args.user_id:42"),
        ("args.:1", 6, "write args.user_id:42"),
        ("x priority:high", 3, ""),
        ("priority:6x", 1, ""),
        (f"attempt:{ATTEMPT_MAX + 1}", 1, ""),
        ("kind:>a", 5, "kind takes : ~"),
        ("args.a:>x", 1, ""),
        ("since:yesterday", 1, "write 15m, 2h, 7d or 2026-11-23T12:00 (UTC)"),
        ("since:0001-01-01T00:00+23:00", 1, ""),
        ("-since:1h", 1, "use since and until"),
        ("since:1h since:2h", 10, ""),
        ("id:12", 1, "copy the whole id"),
        ("kind:a\0", 7, ""),
        ("x" * 2_001, 2_001, ""),
    ],
)
def test_a_fault_is_told_with_its_column(text: str, column: int, step: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        compiled(text)
    assert f"column {column}:" in caught.value.message
    assert caught.value.next_step.startswith(step)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind:x sta", ["state:"]),
        ("state:fa", ["state:failed"]),
        ("-state:failed,co", ["-state:failed,completed"]),
        ("ar", ["args."]),
        ("priority:", ["priority:1", "priority:2", "priority:3", "priority:4", "priority:5", "priority:>=4"]),
        ("kind:x", []),
    ],
)
def test_completion_offers_what_may_follow(text: str, expected: list[str]) -> None:
    assert complete(text) == expected
    assert len(complete("")) == len(FIELDS)
