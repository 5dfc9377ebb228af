import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.domain.errors import InvalidInput
from perdure.domain.health.residual import ResidualModel, fit


def series(rows: int = 600, seed: int = 0) -> np.ndarray:
    """Three metrics that follow one hidden wave, and one that never varies."""
    generator = np.random.default_rng(seed)
    wave = np.sin(np.arange(rows) / 20)
    parts = [wave * 3 + 10, -wave, wave * 100, np.full(rows, 7.0)]
    return np.stack(parts, axis=1) + generator.normal(0, 0.05, (rows, 4)) * [1, 1, 10, 0]


@pytest.fixture(scope="module")
def model() -> ResidualModel:
    return fit(series())


def test_usual_rows_score_about_one(model: ResidualModel) -> None:
    assert 0.7 < float(np.median(model.score(series(seed=1)))) < 1.3


def test_a_break_of_the_pattern_is_found_and_its_metric_named(model: ResidualModel) -> None:
    """The value itself is usual; only its moment is not."""
    rows = series(seed=2)
    rows[400:405, 1] *= -1
    scores = model.score(rows)
    assert scores[400] > 3 * scores[:400].max()
    assert model.contributions(rows)[400].argmax() == 1
    assert abs(model.expected(rows)[400, 1] + rows[400, 1]) < 0.5


def test_a_metric_that_never_varied_may_not_move(model: ResidualModel) -> None:
    rows = series(seed=3)
    rows[500:, 3] = 20.0
    assert model.contributions(rows)[500].argmax() == 3


def test_scores_look_back_only(model: ResidualModel) -> None:
    rows = series(seed=4)
    changed = rows.copy()
    changed[300:] += 5
    assert np.array_equal(model.score(rows)[:300], model.score(changed)[:300])


def test_rows_that_come_one_by_one_score_the_same(model: ResidualModel) -> None:
    rows = series(200, seed=5)
    rows[50:60, 0] = np.nan
    rows[0, 2] = np.inf
    stream = model.stream()
    found = [stream.update(row) for row in rows]
    # Before a metric's first value a series repeats 0 and a stream the mean: they agree once both know it.
    assert np.allclose([score for score, _ in found[20:]], model.score(rows)[20:], rtol=1e-2)


@given(st.integers(0, 2**32), st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
@settings(max_examples=25)
def test_broken_values_never_break_a_score(seed: int, broken: float) -> None:
    rows = series(100)
    generator = np.random.default_rng(seed)
    rows[generator.random(rows.shape) < 0.3] = broken
    model = fit(rows)
    assert np.isfinite(model.score(rows)).all()
    stream = model.stream()
    assert all(np.isfinite(stream.update(row)[0]) for row in rows)


def test_too_few_rows_and_other_widths_are_refused_by_name(model: ResidualModel) -> None:
    with pytest.raises(InvalidInput, match="X: has 10 rows; at least 50"):
        fit(series(10))
    with pytest.raises(InvalidInput, match="X: has 3 columns; the model was fitted on 4"):
        model.score(series()[:, :3])
