"""The light embedder: words and their parts, hashed. Deterministic, in any language, without a model; finds likeness of wording only."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from zlib import crc32

from perdure.ports.execution_memory import DIMENSIONS

LONGEST_TEXT = 4_000
WORD_WEIGHT, PAIR_WEIGHT, PART_WEIGHT = 1.0, 0.5, 0.35
PART_LENGTH = 3
_WORD = re.compile(r"[^\W_]+")


class HashingEmbedder:
    """The port `Embedder` by feature hashing: each word, pair of words and trigram of letters adds to two signed places.

    After K. Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (2009), with square roots of counts.
    """

    name = "hashing"
    version = "1"

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [_vector(text) for text in texts]


def _vector(text: str) -> list[float]:
    vector = [0.0] * DIMENSIONS
    for (feature, weight), count in Counter(_features(text[:LONGEST_TEXT].casefold())).items():
        amount = weight * math.sqrt(count)
        for seed in (0, 1):
            digest = crc32(feature.encode("utf-8", "replace"), seed)
            vector[(digest >> 1) % DIMENSIONS] += amount if digest & 1 else -amount
    norm = math.sqrt(sum(value * value for value in vector))
    if norm == 0:
        return [1.0, *vector[1:]]
    return [value / norm for value in vector]


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = _WORD.findall(text)
    for word in words:
        yield word, WORD_WEIGHT
        padded = f"<{word}>"
        for at in range(len(padded) - PART_LENGTH + 1):
            yield f"#{padded[at : at + PART_LENGTH]}", PART_WEIGHT
    for first, second in pairwise(words):
        yield f"{first} {second}", PAIR_WEIGHT
