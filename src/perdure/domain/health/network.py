"""Small networks of several members, trained together: weighted logistic outputs, Adam, early stopping.

All members live in one array with a leading axis, so that one product of matrices serves the whole ensemble.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from perdure.domain.health.arrays import Bools, Floats, NDArray, np

BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-8  # Adam, Kingma and Ba 2015


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained; `hidden` empty makes it a linear model."""

    hidden: tuple[int, ...] = (48, 24)
    members: int = 3
    epochs: int = 40
    batch: int = 512
    rate: float = 3e-3
    decay: float = 1e-4
    noise: float = 0.0
    patience: int = 8
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights (members, inputs, outputs) and offsets (members, 1, outputs)."""

    weights: Floats
    offsets: Floats

    @property
    def parts(self) -> tuple[Floats, Floats]:
        return self.weights, self.offsets


@dataclass(frozen=True, slots=True)
class Network:
    """Layers with rectifiers between them; its answer is the mean of the members' logits."""

    layers: tuple[Layer, ...]

    def logits(self, rows: Floats) -> Floats:
        """Logits (rows, outputs) of standardised rows."""
        return np.asarray(_activations(self.layers, rows[np.newaxis])[-1].mean(axis=0))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learnt: standardised rows, targets in 0..1 and their weights, both (rows, outputs)."""

    rows: Floats
    targets: Floats
    weights: Floats


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))  # tanh does not overflow


def train(lesson: Lesson, recipe: Recipe, held: Bools | None = None) -> Network:
    """Fit a network to `lesson`.

    `held` (members, rows) marks what a member does not learn from; each keeps the weights that did best on its own.
    """
    generator = np.random.default_rng(recipe.seed)
    learnt = _learnt(len(lesson.rows), recipe, held)
    layers = _fresh(lesson, recipe, generator)
    moments = [(np.zeros_like(part), np.zeros_like(part)) for layer in layers for part in layer.parts]
    best, best_loss, stale, step = layers, np.full(recipe.members, np.inf), 0, 0
    for epoch in range(recipe.epochs):
        # The rate falls along a half cosine: large steps first, small ones to settle.
        rate = recipe.rate * 0.5 * (1 + np.cos(np.pi * epoch / recipe.epochs))
        for chosen in _batches(learnt, recipe, generator):
            step += 1
            gradients = _gradients(layers, _noisy(lesson, chosen, recipe, generator))
            _descend(layers, gradients, moments, rate=rate, decay=recipe.decay, step=step)
        if held is None:
            continue
        loss = _losses(layers, lesson, held)
        better = loss < best_loss
        best = _chosen(better, layers, best)
        best_loss = np.where(better, loss, best_loss)
        stale = 0 if better.any() else stale + 1
        if stale >= recipe.patience:
            break
    return Network(tuple(layers if held is None else best))


def _learnt(rows: int, recipe: Recipe, held: Bools | None) -> list[NDArray[np.intp]]:
    """The row numbers that each member learns from."""
    if held is None:
        return [np.arange(rows)] * recipe.members
    return [np.flatnonzero(~marks) for marks in held]


def _fresh(lesson: Lesson, recipe: Recipe, generator: np.random.Generator) -> list[Layer]:
    """Random weights (He et al. 2015), and last offsets at each output's base rate."""
    sizes = (lesson.rows.shape[1], *recipe.hidden, lesson.targets.shape[1])
    layers: list[Layer] = []
    for inputs, outputs in pairwise(sizes):
        last = len(layers) == len(recipe.hidden)
        scale = 0.01 if last else np.sqrt(2 / max(inputs, 1))
        weights = generator.normal(0, scale, (recipe.members, inputs, outputs))
        layers.append(Layer(weights, np.zeros((recipe.members, 1, outputs))))
    rate = ((lesson.targets * lesson.weights).sum(axis=0) + 0.5) / (lesson.weights.sum(axis=0) + 1.0)
    layers[-1].offsets[:] = np.log(rate / np.maximum(1 - rate, 1e-6))
    return layers


def _batches(
    learnt: list[NDArray[np.intp]], recipe: Recipe, generator: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Row numbers (members, batch); each member sees its rows in an order of its own."""
    count = min(len(rows) for rows in learnt)
    orders = np.stack([generator.permutation(rows)[:count] for rows in learnt])
    for start in range(0, count, recipe.batch):
        yield orders[:, start : start + recipe.batch]


def _noisy(
    lesson: Lesson, chosen: NDArray[np.intp], recipe: Recipe, generator: np.random.Generator
) -> Lesson:
    rows = lesson.rows[chosen]
    if recipe.noise:
        rows = rows + generator.normal(0, recipe.noise, rows.shape)
    return Lesson(rows, lesson.targets[chosen], lesson.weights[chosen])


def _activations(layers: tuple[Layer, ...] | list[Layer], rows: Floats) -> list[Floats]:
    """The rows, what each hidden layer makes of them, and the logits."""
    found = [rows]
    for layer in layers[:-1]:
        found.append(np.maximum(found[-1] @ layer.weights + layer.offsets, 0.0))
    found.append(found[-1] @ layers[-1].weights + layers[-1].offsets)
    return found


def _gradients(layers: list[Layer], lesson: Lesson) -> list[Floats]:
    """Gradients of the mean loss per row, as weights and offsets of the first layer, the second, and so on."""
    activations = _activations(layers, lesson.rows)
    rows = lesson.rows.shape[1]
    slope = lesson.weights * (sigmoid(activations[-1]) - lesson.targets) / rows
    found: list[Floats] = []
    for layer, inputs in zip(reversed(layers), reversed(activations[:-1]), strict=True):
        found = [inputs.transpose(0, 2, 1) @ slope, slope.sum(axis=1, keepdims=True), *found]
        slope = (slope @ layer.weights.transpose(0, 2, 1)) * (inputs > 0)
    return found


def _descend(
    layers: list[Layer],
    gradients: list[Floats],
    moments: list[tuple[Floats, Floats]],
    *,
    rate: float,
    decay: float,
    step: int,
) -> None:
    """One step of Adam, in place; decay is taken off the weights themselves (Loshchilov and Hutter 2019)."""
    parts = [part for layer in layers for part in layer.parts]
    for number, (gradient, (first, second)) in enumerate(zip(gradients, moments, strict=True)):
        np.add(first, (1 - BETA_1) * (gradient - first), out=first)
        np.add(second, (1 - BETA_2) * (gradient**2 - second), out=second)
        stride = (first / (1 - BETA_1**step)) / (np.sqrt(second / (1 - BETA_2**step)) + TINY)
        keep = 1 - rate * decay if number % 2 == 0 else 1.0  # offsets do not decay
        np.subtract(keep * parts[number], rate * stride, out=parts[number])


def _losses(layers: list[Layer], lesson: Lesson, held: Bools) -> Floats:
    """Each member's mean loss over the rows that are held from it."""
    union = held.any(axis=0)
    logits = _activations(layers, lesson.rows[np.newaxis, union])[-1]
    losses = (np.logaddexp(0.0, logits) - lesson.targets[union] * logits) * lesson.weights[union]
    own = held[:, union]
    return np.asarray((losses.sum(axis=2) * own).sum(axis=1) / np.maximum(own.sum(axis=1), 1))


def _chosen(better: Bools, layers: list[Layer], best: list[Layer]) -> list[Layer]:
    """The members of `layers` where they are better, else those of `best`."""
    mask = better[:, np.newaxis, np.newaxis]
    return [
        Layer(np.where(mask, new.weights, old.weights), np.where(mask, new.offsets, old.offsets))
        for new, old in zip(layers, best, strict=True)
    ]
