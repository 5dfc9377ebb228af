"""A kept model: the same after a journey, and refused when anything is off."""

import io
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.errors import ModelUnusable
from perdure.domain.health.drift import Limits
from perdure.domain.health.failure_model import BYTES_MAX, FailureModel, decode, encode, hash_of
from perdure.domain.health.features import FEATURES, MEASURES, features
from perdure.domain.health.fleet import Fleet
from perdure.domain.health.foresight import Case
from perdure.domain.health.hazard import fit
from perdure.domain.health.network import Recipe
from perdure.domain.health.trained import predict
from perdure.domain.sample import Sample

WIDTH = len(FEATURES)
FILES = FEATURES.index("files.level")


def trained() -> FailureModel:
    """A model to which open files foretell a failure."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, WIDTH))
    time = rng.exponential(600 * np.exp(-2 * rows[:, FILES]))
    hazard = fit(
        rows, time, np.ones(600), edges=[60, 300, 900], recipe=Recipe(hidden=(), epochs=30, rate=1e-2)
    )
    return FailureModel(hazard, 10.0, np.zeros((9, WIDTH)), np.zeros((10, WIDTH)))


MODEL = trained()
BODY = encode(MODEL)


def read(body: bytes, *, sha256: str | None = None, interval_s: float = 10.0) -> FailureModel:
    return decode(body, sha256=sha256 or hash_of(body), interval_s=interval_s, name=7)


def rewritten(**changes: object) -> bytes:
    """The body with other arrays in it, under a hash that fits."""
    with np.load(io.BytesIO(BODY)) as found:
        arrays = {key: found[key] for key in found.files}
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, **changes})
    return buffer.getvalue()


def test_a_model_is_the_same_after_it_was_kept_and_its_bytes_too() -> None:
    again = read(BODY)
    rows = np.random.default_rng(1).normal(size=(20, WIDTH))
    assert (again.probability(rows, 300) == MODEL.probability(rows, 300)).all()
    assert encode(again) == BODY


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_and_without_the_hash_ends_in_no_other_error(
    place: int, change: int
) -> None:
    changed = bytearray(BODY)
    changed[place] ^= change
    with pytest.raises(ModelUnusable, match="hash"):
        read(bytes(changed), sha256=hash_of(BODY))
    with suppress(ModelUnusable):
        read(bytes(changed))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"about": np.frombuffer(json.dumps({"format": 9}).encode(), dtype=np.uint8)}, "another format"),
        (
            {"about": np.frombuffer(json.dumps({"format": 1, "features": "x"}).encode(), dtype=np.uint8)},
            "other features",
        ),
        ({"edges": np.array([60.0, 30.0, 900.0])}, "do not rise"),
        ({"center": np.full(WIDTH, np.nan)}, "no finite numbers"),
        ({"scale": np.zeros(WIDTH)}, "scales"),
        ({"cuts": np.zeros((9, 2))}, "picture"),
        ({"weights0": np.zeros((3, WIDTH, 5))}, "layers"),
        ({"mending": np.array([{"a": 1}, 2], dtype=object)}, "cannot be read"),
        ({"about": np.zeros(BYTES_MAX, dtype=np.uint8)}, "larger than a model"),
    ],
    ids=["format", "features", "edges", "numbers", "scales", "cuts", "layers", "pickle", "size"],
)
def test_a_foreign_model_is_refused_though_its_hash_fits(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ModelUnusable, match=why):
        read(rewritten(**changes))


def test_a_model_of_workers_that_tell_of_themselves_at_another_pace_is_refused() -> None:
    with pytest.raises(ModelUnusable, match=r"every 10\.0 s, and they are taken every 2 s"):
        read(BODY, interval_s=2.0)


def series(count: int, *, files: int, growth: int = 0) -> list[Sample]:
    began, worker = datetime(2026, 1, 1, tzinfo=UTC), uuid4()
    return [
        Sample(
            worker_id=worker,
            at=began + timedelta(seconds=10 * number),
            running=1,
            finished=10,
            failed=0,
            timed_out=0,
            open_files=files + growth * number,
        )
        for number in range(count)
    ]


def case(samples: list[Sample]) -> Case:
    return Case(
        worker_id=samples[0].worker_id,
        at=samples[-1].at,
        age=timedelta(hours=1),
        samples=samples,
        fleet=Fleet(),
        limits=Limits(),
    )


def test_reasons_are_the_measures_without_which_the_model_would_expect_less() -> None:
    found = predict(MODEL, case(series(30, files=8)), horizon=timedelta(minutes=5), name="model 7")
    assert found.method == "model 7"
    assert [one.what for one in found.reasons] == [MEASURES["files"]]
    assert found.reasons[0].probability_without == pytest.approx(found.base, abs=0.05)
    assert found.low is not None
    assert found.median is None or found.low < found.median


def test_with_too_few_samples_the_limits_answer_and_say_so() -> None:
    assert predict(MODEL, case(series(3, files=8)), horizon=timedelta(minutes=5), name="m").method == "limits"


@given(
    st.lists(st.sampled_from([None, -1.0, 0.0, 1e300, float("inf"), float("nan")]), min_size=6, max_size=6)
)
def test_samples_that_make_no_sense_give_a_probability_all_the_same(values: list[float | None]) -> None:
    samples = [
        Sample(
            worker_id=one.worker_id,
            at=one.at,
            running=1,
            finished=-1,
            failed=0,
            timed_out=0,
            memory_percent=value,
            slowness=value,
            loop_lag_ms=value,
            cpu_percent=value,
            database_ms=value,
        )
        for one, value in zip(series(6, files=1), values, strict=True)
    ]
    row = features(samples)
    assert row.shape == (WIDTH,)
    found = predict(MODEL, case(samples), horizon=timedelta(minutes=5), name="m")
    assert 0 <= found.probability <= 1
