"""The seam to the memory that workers and programs share."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from perdure.domain.shared_memory import SharedEntry, SharedNamespace


class SharedEntries(Protocol):
    """Entries by namespace and key; each call is atomic, and what has run out is absent."""

    async def get(self, namespace: str, key: str) -> SharedEntry | None:
        """The entry, or None."""
        ...

    async def list(self, namespace: str, *, prefix: str, after: str, limit: int) -> Sequence[SharedEntry]:
        """The next entries after a key, in the order of the bytes of their keys."""
        ...

    async def namespaces(self) -> Sequence[SharedNamespace]:
        """The namespaces that have entries."""
        ...

    async def write(self, namespace: str, key: str, value: str, ttl: timedelta | None) -> SharedEntry:
        """Write JSON over whatever is there."""
        ...

    async def write_if(
        self, namespace: str, key: str, value: str, ttl: timedelta | None, *, version: UUID | None
    ) -> SharedEntry | None:
        """Write JSON if the entry has this version, or with None if it is absent; of several who try one is let through."""
        ...

    async def erase(self, namespace: str, key: str, *, version: UUID | None) -> bool:
        """Delete the entry, if a version is given only that one; tells whether it was there."""
        ...
