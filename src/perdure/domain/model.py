"""Trained models as they are known: what they are, how they stand, and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from perdure.domain.health.lives import Life, Span


class ModelState(StrEnum):
    """What a model does."""

    CANDIDATE = "candidate"
    """Nothing: it was not good enough, or nobody has decided yet."""
    SHADOW = "shadow"
    """It is compared with the champion on what happens now, and nothing is done by it."""
    CHAMPION = "champion"
    """Predictions are made by it."""
    RETIRED = "retired"
    """It was champion or shadow before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model that was trained just now, not kept yet; `facts` is how it stood on history that it had not seen."""

    body: bytes
    sha256: str
    kind: str
    trained_from: datetime
    trained_to: datetime
    moments: int
    failures: int
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that is kept; `replaced` is the champion before it, `since` when it came to its state, `why` what led there."""

    id: int
    state: ModelState
    since: datetime
    why: str
    made_at: datetime
    made_by: str
    kind: str
    trained_from: datetime
    trained_to: datetime
    moments: int
    failures: int
    sha256: str
    facts: Mapping[str, object]
    replaced: int | None = None

    @property
    def name(self) -> str:
        return f"model {self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What can be learnt from: lives of workers, of how many in all, and the times in which the whole fleet was in trouble."""

    lives: Sequence[Life]
    known: int
    incidents: Sequence[Span] = ()
