import inspect
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.errors import DependencyCycle, InvalidOption
from perdure.domain.job import LIVE, WAITING, Dependency, JobId, JobState, NewJob, OnParentFailure
from perdure.domain.kind import JobOptions, Kind, job
from perdure.domain.meanings import MEANINGS
from perdure.domain.options import EnqueueOptions, new_job
from perdure.runtime.app import Perdure
from tests.support.new_jobs import job_of

ID = JobId(UUID("0198c5a1-0000-7000-8000-000000000001"))
OTHER = JobId(UUID("0198c5a1-0000-7000-8000-000000000002"))
ANY_STATE = frozenset(JobState)


@dataclass
class Handle:
    id: UUID


@job(queue="media", priority=2, retries=1, labels=["gpu"])
def resize(image: str, sizes: set[str], width: int = 640) -> None: ...


def made(kind: Kind[..., Any] = resize, image: str = "a", **options: Any) -> NewJob:
    args = resize.arguments.encode((image, {"s", "m", "l"}), {})
    return new_job(kind, EnqueueOptions(**options), args, ID)


def test_a_new_job_follows_its_kind() -> None:
    assert made() == job_of(
        id=ID,
        queue="media",
        kind=resize.name,
        args=resize.arguments.encode(("a", {"s", "m", "l"}), {}),
        priority=2,
        max_attempts=2,
        labels=("gpu",),
    )


def test_what_an_enqueue_gives_comes_before_its_kind() -> None:
    new = made(
        queue="slow", priority=5, retries=0, timeout=None, labels=(), crash_limit=2, metadata={"a": [1]}
    )
    assert (new.shape.queue, new.shape.priority, new.shape.max_attempts, new.shape.timeout) == (
        "slow",
        5,
        1,
        None,
    )
    assert (new.shape.labels, new.shape.crash_limit, new.metadata) == ((), 2, {"a": [1]})


def test_an_id_of_the_callers_own_counts() -> None:
    assert made(id=OTHER).id == OTHER


def test_a_delay_or_a_moment_puts_the_start_off() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert made(delay="10m").delay == timedelta(minutes=10)
    assert made(run_at=moment).run_at == moment


def test_parents_are_ids_handles_or_edges() -> None:
    edge = Dependency(parent_id=OTHER, on_failure=OnParentFailure.RUN)
    third = uuid4()
    assert made(depends_on=OTHER).depends_on == (Dependency(parent_id=OTHER),)
    assert made(depends_on=Handle(OTHER)).depends_on == (Dependency(parent_id=OTHER),)
    several = made(depends_on=[edge, Handle(third), third], on_parent_failure="cancel").depends_on
    assert several == (edge, Dependency(parent_id=JobId(third), on_failure=OnParentFailure.CANCEL))


def test_a_job_cannot_wait_for_itself() -> None:
    with pytest.raises(DependencyCycle):
        made(depends_on=[ID])


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("priority", {"priority": 6}),
        ("queue", {"queue": ""}),
        ("retries", {"retries": None}),
        ("timeout", {"timeout": "0s"}),
        ("delay", {"delay": "-1s"}),
        ("delay", {"delay": "tomorrow"}),
        ("run_at", {"run_at": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("run_at", {"run_at": "2026-01-01"}),
        ("run_at", {"run_at": datetime(2026, 1, 1, tzinfo=UTC), "delay": "1s"}),
        ("depends_on", {"depends_on": "0198c5a1"}),
        ("depends_on", {"depends_on": [3]}),
        ("id", {"id": uuid4()}),
        ("id", {"id": "x"}),
        ("metadata", {"metadata": {"a": datetime.now(UTC)}}),
        ("metadata", {"metadata": {"a": float("nan")}}),
        ("metadata", {"metadata": {"a": "\x00"}}),
        ("metadata", {"metadata": {1: 2}}),
        ("metadata", {"metadata": []}),
        ("unique_states", {"unique_key": "k", "unique_states": ["running"]}),
        ("unique_states", {"unique_states": WAITING}),
        ("on_duplicate", {"on_duplicate": "drop"}),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        made(**options)
    assert refused.value.field == field


def test_a_unique_key_holds_while_its_job_lives() -> None:
    rule = made(unique_key="invoice-1").unique
    assert rule is not None
    assert (rule.key, rule.states, rule.period) == ("invoice-1", LIVE, None)


def test_a_period_alone_makes_the_key_of_kind_and_arguments_and_counts_in_all_states() -> None:
    rule = made(unique_for="1h").unique
    assert rule is not None
    assert rule.key.startswith(f"{resize.name}:")
    assert (rule.states, rule.period) == (ANY_STATE, timedelta(hours=1))
    assert rule == made(unique_for="1h").unique
    assert rule != made(unique_for="1h", image="b").unique
    renamed = job(name="other", unique_for="1h")(resize.function)
    other = made(renamed).unique
    assert other is not None
    assert other.key != rule.key


@given(st.permutations(["s", "m", "l"]), st.booleans())
def test_the_derived_key_does_not_depend_on_how_the_call_is_spelled(order: list[str], by_name: bool) -> None:
    listed = '","'.join(order)
    args = f'{{"sizes":["{listed}"],"image":"a"}}' if by_name else f'{{"image":"a","sizes":["{listed}"]}}'
    assert new_job(resize, EnqueueOptions(unique_for=60), args, ID).unique == made(unique_for=60).unique


def test_further_states_may_be_added_to_the_waiting_ones() -> None:
    rule = made(unique_key="k", unique_states=WAITING | {JobState.COMPLETED}).unique
    assert rule is not None
    assert rule.states == WAITING | {JobState.COMPLETED}


def test_keys_are_made_of_the_arguments_by_name() -> None:
    keyed = job(
        concurrency_key=lambda image, **_: f"image-{image}",
        concurrency_limit=2,
        unique_key=lambda *, width, sizes, **_: f"{width}-{len(sizes)}",
    )(resize.function)
    new = made(keyed)
    assert (new.concurrency_key, new.concurrency_limit) == ("image-a", 2)
    assert new.unique is not None
    assert new.unique.key == "640-3"
    assert made(keyed, concurrency_key=None, unique_key=None).unique is None


@pytest.mark.parametrize("made_key", ["", 3, None, "a\x00"])
def test_a_key_that_cannot_be_is_refused(made_key: object) -> None:
    with pytest.raises(InvalidOption, match="concurrency_key"):
        made(concurrency_key=lambda **_: made_key)


def test_every_option_has_a_meaning_that_help_shows() -> None:
    own = {field.name for field in fields(EnqueueOptions)}
    assert set(MEANINGS) == own | set(JobOptions.__annotations__) | {"conn"}
    shown = inspect.getdoc(job) or ""
    assert all(f"    {name}: {MEANINGS[name]}" in shown for name in JobOptions.__annotations__)
    assert all(name in (Perdure.using.__doc__ or "") for name in own)
