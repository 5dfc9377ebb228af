import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure.domain.errors import InvalidInput
from perdure.domain.health.hazard import HazardModel, fit
from perdure.domain.health.network import Recipe

EDGES = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
LINEAR = Recipe(hidden=(), members=1, epochs=60, batch=256, rate=0.02)


def lifetimes(rows: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One feature that doubles the rate with each unit, one of noise; a third is censored at random."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, 2))
    time = generator.exponential(10 / 2 ** features[:, 0])
    seen = np.where(generator.random(rows) < 0.5, generator.exponential(15, rows), np.inf)
    return features, np.minimum(time, seen), time <= seen


@pytest.fixture(scope="module")
def model() -> HazardModel:
    features, time, event = lifetimes()
    return fit(features, time, event, edges=EDGES, recipe=LINEAR)


@pytest.mark.parametrize("horizon", [0.5, 1.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("feature", [-1.0, 0.0, 1.0])
def test_the_probability_is_the_true_one_for_any_horizon(
    model: HazardModel, horizon: float, feature: float
) -> None:
    """Also under censoring, and between the edges."""
    true = 1 - np.exp(-horizon * 2**feature / 10)
    assert model.predict([[feature, 0.0]], horizon)[0] == pytest.approx(true, abs=0.04)


def test_median_and_interval_are_the_true_ones(model: HazardModel) -> None:
    life = model.lifetime([[0.0, 0.0], [-3.0, 0.0]])
    assert life.median[0] == pytest.approx(10 * np.log(2), rel=0.1)
    assert life.low[0] == pytest.approx(-10 * np.log(0.9), rel=0.25)
    assert life.high[0] == pytest.approx(10 * np.log(10), rel=0.1)
    assert np.isinf(life.high[1])


def test_the_interval_holds_four_of_five(model: HazardModel) -> None:
    generator = np.random.default_rng(5)
    features = generator.normal(size=(2000, 2))
    time = generator.exponential(10 / 2 ** features[:, 0])
    life = model.lifetime(features)
    assert np.mean((life.low <= time) & (time <= life.high)) == pytest.approx(0.8, abs=0.04)


@example(row=[1.7976931348623157e308, -1.7976931348623157e308], horizon=1.0)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=2), st.floats(0.01, 1e6))
@settings(max_examples=60)
def test_any_features_give_a_probability_that_grows_with_the_horizon(
    row: list[float], horizon: float
) -> None:
    model = known()
    near, far = model.predict([row], horizon)[0], model.predict([row], horizon * 2)[0]
    assert 0 <= near <= far <= 1


def known() -> HazardModel:
    if not MODELS:
        features, time, event = lifetimes(500)
        MODELS.append(fit(features, time, event, edges=EDGES, recipe=Recipe(epochs=3)))
    return MODELS[0]


MODELS: list[HazardModel] = []


def test_hidden_units_learn_what_a_line_cannot() -> None:
    """The rate depends on the product of two features."""
    generator = np.random.default_rng(1)
    features = generator.normal(size=(4000, 2))
    time = generator.exponential(np.where(features[:, 0] * features[:, 1] > 0, 2.0, 20.0))
    fitted = {
        hidden: fit(
            features, time, np.ones(4000), edges=EDGES, recipe=Recipe(hidden=hidden, epochs=30, rate=0.01)
        )
        for hidden in ((), (16,))
    }
    rows = np.array([[1.5, 1.5], [1.5, -1.5]])
    risky, safe = fitted[(16,)].predict(rows, 5.0)
    assert risky - safe > 0.4
    assert abs(np.subtract(*fitted[()].predict(rows, 5.0))) < 0.2


def test_a_fit_repeats_exactly(model: HazardModel) -> None:
    features, time, event = lifetimes()
    again = fit(features, time, event, edges=EDGES, recipe=LINEAR)
    assert np.array_equal(model.survival(features), again.survival(features))


def test_rows_held_out_are_not_learnt_from() -> None:
    features, time, event = lifetimes(400)
    held = np.arange(400) >= 300
    changed = features.copy()
    changed[held] = 50.0
    fitted = [
        fit(rows, time, event, edges=EDGES, recipe=Recipe(epochs=1, members=2), holdout=held)
        for rows in (features, changed)
    ]
    assert np.array_equal(fitted[0].center, fitted[1].center)
    assert np.array_equal(fitted[0].predict(features, 5.0), fitted[1].predict(features, 5.0))


def test_missing_values_count_as_usual_ones(model: HazardModel) -> None:
    assert model.predict([[np.nan, 0.0]], 5.0) == model.predict([[model.center[0], 0.0]], 5.0)


def test_a_model_mended_by_platt_says_more_or_less(model: HazardModel) -> None:
    assert model.calibrated(1.0, -1.0).predict([[0, 0]], 5.0)[0] < model.predict([[0, 0]], 5.0)[0]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("time", {"time": [-1.0, 2.0]}),
        ("time", {"time": [np.nan, 2.0]}),
        ("time", {"time": [1.0]}),
        ("event", {"event": [1, 1, 1]}),
        ("edges", {"edges": [2.0, 1.0]}),
        ("edges", {"edges": []}),
        ("holdout", {"holdout": [True, True]}),
        ("holdout", {"holdout": [True]}),
    ],
)
def test_bad_input_is_refused_by_name(field: str, change: dict[str, object]) -> None:
    given: dict[str, object] = {"time": [1.0, 2.0], "event": [1, 0], "edges": [1.0], **change}
    with pytest.raises(InvalidInput) as caught:
        fit([[0.0], [1.0]], **given)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_horizon_of_nothing_and_other_widths_are_refused(model: HazardModel) -> None:
    with pytest.raises(InvalidInput, match="horizon"):
        model.predict([[0.0, 0.0]], 0)
    with pytest.raises(InvalidInput, match="X: has 1 columns; the model was fitted on 2"):
        model.predict([[0.0]], 1)
