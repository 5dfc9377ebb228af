"""What makes vectors of words: always the same ones, of length 1, and nearer for what means the same."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.execution_memory import asked, essence, spoken
from perdure.ports.execution_memory import DIMENSIONS, Embedder
from perdure.stores.embeddings.hashing import HashingEmbedder
from perdure.stores.embeddings.minilm import MiniLmEmbedder


@pytest.fixture(scope="module", params=[HashingEmbedder, MiniLmEmbedder])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    made: Embedder = request.param()
    return made


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_vector_depends_on_its_text_alone(embedder: Embedder) -> None:
    texts = ["connection reset by peer", "", "x" * 10_000, "é → \u202e", "connection reset by peer"]
    together = embedder.embed(texts)
    assert [len(vector) for vector in together] == [DIMENSIONS] * len(texts)
    assert all(math.isclose(cosine(vector, vector), 1, abs_tol=1e-4) for vector in together)
    assert cosine(together[0], together[4]) > 0.9999
    for text, vector in zip(texts, together, strict=True):
        assert cosine(embedder.embed([text])[0], vector) > 0.99


def test_what_is_alike_is_nearer(embedder: Embedder) -> None:
    asked_for, alike, other = embedder.embed(
        [
            "connection reset while reading",
            "connection reset error: connection reset by peer",
            "division by zero",
        ]
    )
    assert cosine(asked_for, alike) > cosine(asked_for, other) + 0.2


def test_the_model_knows_what_other_words_mean() -> None:
    disk, full, time = MiniLmEmbedder().embed(
        ["no space left on device", "the disk is full", "it took too long"]
    )
    assert cosine(disk, full) > cosine(disk, time) + 0.1


def test_hashing_gives_the_same_numbers_on_every_machine() -> None:
    """Vectors that are kept must still mean the same after an upgrade; a change of them needs a new version."""
    (vector,) = HashingEmbedder().embed(["connection reset by peer"])
    assert [(at, round(value, 4)) for at, value in enumerate(vector) if abs(value) > 0.22] == [
        (238, -0.2858),
        (289, -0.2858),
        (294, 0.2858),
        (300, -0.2858),
        (348, 0.2858),
        (382, 0.2858),
    ]


def test_what_varies_between_errors_of_one_cause_is_left_out() -> None:
    assert spoken("urllib.error.HTTPError") == "urllib error http error"
    assert essence("no file '/a/b.csv' for order 4711") == essence("no file '/c.csv' for order 12")
    assert essence("'NoneType' object has no attribute 'x'") == "NoneType object has no attribute"
    assert asked("ConnectionResetError: [Errno 104]").startswith("connection reset error")
    assert asked("42") == "42"


@given(st.text(max_size=300))
def test_any_text_can_be_asked_for(text: str) -> None:
    assert isinstance(asked(text), str)
    (vector,) = HashingEmbedder().embed([asked(text)])
    assert math.isclose(cosine(vector, vector), 1, abs_tol=1e-6)
