import numpy as np
import pytest

from perdure.domain.errors import InvalidInput
from perdure.domain.health.alarm import Level, Raised, Repeats, budget, episodes, raised


def scores(days: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(4, 0.25, 288 * days)


def test_levels_keep_their_budget_in_training() -> None:
    known = scores(30)
    levels = budget(known, rows_per_day=288)
    assert 20 <= episodes(known > levels.warning) <= 30
    assert 4 <= episodes(known > levels.alarm) <= 7.5


def test_little_training_makes_a_less_eager_detector() -> None:
    known = scores(1)[:100]
    assert budget(known, rows_per_day=288).warning > known.max()
    with pytest.raises(InvalidInput, match="scores: are empty"):
        budget([np.nan], rows_per_day=288)


def test_severity_rises_with_the_score() -> None:
    levels = budget(scores(30), rows_per_day=288)
    found = [
        levels.level(score) for score in (0.0, levels.warning * 1.01, levels.alarm * 1.01, levels.alarm * 2.1)
    ]
    assert found == [Level.NONE, Level.WARNING, Level.ALARM, Level.GRAVE]
    assert levels.level(np.nan) is Level.NONE


def test_levels_rise_with_a_drift_and_come_back() -> None:
    known = scores(4)
    usual = float(np.quantile(known, 0.95))
    assert raised(known, usual)[-1] < 1.2
    drifted = raised(known * 2, usual, before=known)
    assert drifted[0] < 1.2
    assert drifted[-1] == pytest.approx(2, rel=0.2)
    assert raised(known * 100, usual).max() == 4


def test_a_factor_uses_earlier_scores_only() -> None:
    known = scores(2)
    changed = known.copy()
    changed[400:] = 50
    assert np.array_equal(raised(known, 1.0)[:400], raised(changed, 1.0)[:400])


def test_few_scores_raise_nothing() -> None:
    watch = Raised(1.0)
    assert {watch.update(10.0) for _ in range(72)} == {1.0}


def test_a_repeat_is_held_back_until_it_is_beaten_or_old() -> None:
    repeats = Repeats(quiet=3)
    assert [repeats.new(score) for score in (5, 5, 6, 1, 2, 3, 5)] == [
        True,
        False,
        True,
        False,
        False,
        False,
        True,
    ]
