"""Memory that workers and programs share: entries by namespace and key, each for a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Raw

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.errors import InvalidOption

DEFAULT_TTLS: Mapping[str, timedelta] = {
    "jobs": timedelta(hours=24),
    "workers": timedelta(hours=1),
    "dead-letters": timedelta(days=30),
    "patterns": timedelta(days=90),
}
"""How long entries of these namespaces stay unless their writer says otherwise; those of others stay until deleted."""

AS_THE_NAMESPACE_SAYS = "default"
SHORTEST_TTL = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedEntry:
    """What is kept under a key: JSON, and a `version` that no other write of any entry ever had."""

    namespace: str
    key: str
    value: Raw
    version: UUID
    written_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPage:
    """Entries in the order of their keys, and where the next page begins."""

    entries: Sequence[SharedEntry]
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedNamespace:
    """A namespace that has entries."""

    namespace: str
    entries: int


def time_to_live(namespace: str, ttl: Duration | None) -> timedelta | None:
    """How long an entry stays: what was said, by the namespace where it says "default", and None for ever. Raises InvalidOption."""
    if ttl is None or ttl == AS_THE_NAMESPACE_SAYS:
        return None if ttl is None else DEFAULT_TTLS.get(namespace)
    span = parse_duration(ttl, "ttl")
    if span < SHORTEST_TTL:
        raise InvalidOption(
            "ttl", "must be at least a millisecond", next_step="delete the entry to have it gone"
        )
    return span
