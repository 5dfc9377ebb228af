import numpy as np
import pytest

from perdure.domain.errors import InvalidInput
from perdure.domain.health.calibration import platt, quality


def drawn(rows: int = 50_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    said = generator.beta(1, 20, rows)
    return said, generator.random(rows) < said


def test_true_probabilities_are_calibrated_and_better_than_the_base_rate() -> None:
    found = quality(*drawn())
    assert found.error < 0.004
    assert found.skill > 0
    assert found.lift > 2
    assert found.area > found.positives / found.rows


def test_exaggeration_is_seen_and_mended() -> None:
    said, true = drawn()
    logits = 2 * np.log(said / (1 - said)) + 1
    loud = 1 / (1 + np.exp(-logits))
    slope, offset = platt(logits, true)
    assert quality(loud, true).error > 0.02
    assert slope == pytest.approx(0.5, abs=0.05)
    assert offset == pytest.approx(-0.5, abs=0.1)


def test_what_says_the_same_of_all_has_the_base_rate_as_area() -> None:
    _, true = drawn()
    found = quality(np.full(len(true), 0.1), true)
    assert found.area == pytest.approx(true.mean())


def test_the_area_of_a_known_ranking() -> None:
    assert quality([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]).area == pytest.approx((1 + 2 / 3) / 2)


def test_platt_stays_finite_when_classes_part_without_error() -> None:
    slope, offset = platt([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    assert np.isfinite([slope, offset]).all()


def test_one_outcome_alone_measures_nothing() -> None:
    with pytest.raises(InvalidInput, match="outcomes"):
        quality([0.1, 0.2], [0, 0])
