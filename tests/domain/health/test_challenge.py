"""Champion and challenger: nothing of the future is learnt, and only what is surely better is relied on."""

import numpy as np
import pytest

from perdure.domain.errors import InvalidInput
from perdure.domain.health.challenge import Lessons, deciles, gain, judge, learn, shares, split, stability


def lessons(count: int = 3000, *, telling: float = 1.2) -> Lessons:
    """Moments of a hundred workers; the first feature foretells failures as strongly as `telling`."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(count, 3))
    time = rng.exponential(600 * np.exp(2.5 - telling * rows[:, 0]))
    return Lessons(
        rows,
        np.sort(rng.uniform(0, 100_000, count)),
        np.minimum(time, 5000),
        time < 5000,
        rng.integers(0, 100, count),
    )


def test_parts_are_apart_in_time_and_what_failed_later_is_not_known_earlier() -> None:
    known = lessons()
    parts = split(known, horizon=300)
    assert not (parts.train & parts.valid).any()
    assert known.at[parts.train].max() + 300 <= known.at[parts.valid].min()
    assert known.at[parts.valid].max() + 300 <= known.at[parts.test].min()
    older = known.part(parts.train).ended(parts.train_end)
    assert (older.at + older.time <= parts.train_end + 1e-6).all()
    assert older.failed.sum() < known.failed[parts.train].sum()
    with pytest.raises(InvalidInput):
        split(known.part(np.zeros(len(known.at), dtype=bool)), horizon=300)


def test_what_can_be_learnt_is_learnt_and_is_calibrated_on_what_was_not_seen() -> None:
    rng = np.random.default_rng(0)
    known = lessons()
    parts = split(known, horizon=300)
    model, kind = learn(known, parts, edges=[60, 300, 900, 3600], horizon=300, failures=100)
    assert kind.startswith("linear")
    test = known.part(parts.test)
    sure, true = test.known(300)
    said = model.predict(test.rows[sure], 300)
    found = judge(said, {"a coin": rng.random(sure.sum())}, true[sure], test.unit[sure], error_max=0.05)
    assert found.faults == ()
    assert found.quality is not None
    assert found.quality.skill > 0.1


def test_with_many_failures_a_network_is_tried_too_and_learns_what_no_line_can_say() -> None:
    rng = np.random.default_rng(0)
    known = lessons()
    risk = np.where(np.abs(known.rows[:, 0]) > 1.2, 3.0, -1.0)
    time = rng.exponential(1500 * np.exp(-risk))
    known = Lessons(known.rows, known.at, time, np.ones(len(time), dtype=bool), known.unit)
    _, kind = learn(known, split(known, horizon=300), edges=[60, 300, 900, 3600], horizon=300, failures=200)
    assert kind.startswith("network")


def test_a_model_that_is_no_better_is_not_relied_on_and_says_why() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(2000) < 0.1
    unit = rng.integers(0, 50, 2000)
    good, other = np.where(true, 0.6, 0.05), np.where(true, 0.61, 0.05)
    assert (
        "it is not surely better than the champion"
        in judge(good, {"the champion": other}, true, unit).faults[-1]
    )
    assert any("not calibrated" in fault for fault in judge(good * 0.5, {}, true, unit).faults)
    assert any("base rate" in fault for fault in judge(np.full(2000, 0.5), {}, true, unit).faults)
    assert judge(good, {}, np.zeros(2000, dtype=bool), unit).quality is None


def test_rows_of_one_worker_do_not_count_as_if_they_were_many() -> None:
    """The same rows, once of two hundred workers and once of four: the fewer workers, the less sure the gain."""
    true = np.tile([True, False, False, False], 250)
    better, worse = np.where(true, 0.4, 0.2), np.full(1000, 0.25)
    noise = np.repeat([-0.15, -0.05, 0.05, 0.15], 250)
    one = gain(np.clip(better + noise, 0.01, 0.99), worse, true, np.arange(1000))
    other = gain(np.clip(better + noise, 0.01, 0.99), worse, true, np.repeat(np.arange(4), 250))
    assert one.log_loss == pytest.approx(other.log_loss)
    assert other.log_loss_low < one.log_loss_low


def test_a_feature_that_has_moved_is_seen_and_one_that_has_not_is_not() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(3000, 2))
    cuts = deciles(before)
    now = rng.normal(size=(1000, 2)) + np.array([0.0, 1.0])
    index = stability(shares(before, cuts), shares(now, cuts))
    assert index[0] < 0.05
    assert index[1] > 0.2
