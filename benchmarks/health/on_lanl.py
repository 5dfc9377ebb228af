"""The figures on LANL: the hazard network, stopped on April to June 2004, asked once about 2005."""

from math import erf, sqrt
from pathlib import Path

import archives
import lanl
import numpy as np
from report import Figure

from perdure.domain.health.calibration import Quality, quality
from perdure.domain.health.hazard import HazardModel, fit
from perdure.domain.health.network import Recipe

# Chosen by the log-loss of the validation months: with hidden units it is better there than without.
RECIPE = Recipe(hidden=(32, 16), members=5, epochs=8, batch=2048, rate=1e-3, decay=0.3)
EDGES = (3.0, 7.0, 14.0)
RECENT_DAYS = 550.0


def figures(folder: Path) -> list[Figure]:
    questions = asked(folder)
    model = learn(questions)
    test = questions.part(questions.at >= lanl.TEST_START)
    failed = test.time <= lanl.HORIZON
    found = quality(model.predict(test.features, lanl.HORIZON), failed)
    plain = quality(z_rule(test), failed)
    return [
        Figure("LANL AUC-PR", found.area, "", 0.050, 0.070, plain.area),
        Figure("LANL log-loss skill", found.skill, "", 0.030, 0.060, plain.skill),
        Figure("LANL lift in the top 1 %", found.lift, "x", 7, 10, plain.lift),
        Figure("LANL calibration error", found.error, "", 0.005, 0.002, plain.error, lower=True),
        *_linear(questions, test, failed),
    ]


def asked(folder: Path) -> lanl.Questions:
    log = list(archives.lanl(folder))
    known = lanl.clusters(log)
    end = max(one.at[-1] for one in known)
    parts = [lanl.asked(one, end) for one in known]
    return lanl.Questions(
        np.concatenate([one.features for one in parts]),
        np.concatenate([one.at for one in parts]),
        np.concatenate([one.time for one in parts]),
        np.concatenate([one.unit for one in parts]),
    )


def learn(questions: lanl.Questions, recipe: Recipe = RECIPE) -> HazardModel:
    """Fit on the last 550 days before April 2004; what is asked later is censored there, or seen in validation."""
    at = questions.at
    train = (at < lanl.TRAIN_END) & (at > lanl.TRAIN_END - RECENT_DAYS)
    valid = (at >= lanl.TRAIN_END) & (at < lanl.VALID_END - lanl.HORIZON)
    rows = questions.part(train | valid)
    held = rows.at >= lanl.TRAIN_END
    seen = np.where(held, lanl.VALID_END, lanl.TRAIN_END) - rows.at
    time = np.minimum(rows.time, seen)
    return fit(rows.features, time, rows.time <= seen, edges=EDGES, recipe=recipe, holdout=held)


def z_rule(test: lanl.Questions) -> np.ndarray:
    """The specification's way: how far the count of the last 30 days lies above its mean, as a normal probability."""
    count = np.expm1(test.features[:, lanl.WINDOWS.index(30.0)])
    z = (count - count.mean()) / count.std()
    return np.array([0.5 * (1 + erf(one / sqrt(2))) for one in z])


def _linear(questions: lanl.Questions, test: lanl.Questions, failed: np.ndarray) -> list[Figure]:
    """The same code without hidden units: what a network has to beat."""
    model = learn(questions, Recipe(hidden=(), members=1, epochs=15, batch=2048))
    found: Quality = quality(model.predict(test.features, lanl.HORIZON), failed)
    return [Figure("LANL AUC-PR, linear", found.area), Figure("LANL log-loss skill, linear", found.skill)]
