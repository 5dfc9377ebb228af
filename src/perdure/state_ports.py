"""The seams of looking back, saving and bringing back: what its services need, each a small protocol with its law."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from perdure.domain.advice import Attempt
from perdure.domain.following import InForce, Wish
from perdure.domain.snapshot import Manifest, Part, RecordedCut
from perdure.domain.snapshot_sealing import Chunks
from perdure.ports import Insights

PartsOf: TypeAlias = Callable[[Manifest, Part], AsyncIterator[bytes]]
"""Gives the lines of a part of a snapshot."""


class Attempts(Protocol):
    """How attempts went, for advice."""

    async def of_kind(
        self, kind: str, *, within: timedelta, limit: int, budget: timedelta
    ) -> Sequence[Attempt]:
        """The newest ended attempts of a kind, at most `limit`, from as short a span as has enough. Raises NotFound and DatabaseUnavailable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What a kind follows of the advice on it, and what it goes by since when; None when it has always been its own."""

    wish: Wish
    now: InForce
    changed_at: datetime | None
    stood: timedelta | None


class FollowedAdvice(Protocol):
    """What kinds follow of the advice on them, and the values in force."""

    async def wish(self, wishes: Sequence[Wish]) -> None:
        """Write down what kinds follow from now on."""
        ...

    async def in_force(self, kinds: Sequence[str]) -> Mapping[str, InForce]:
        """The values of those of the kinds that do not go by their own."""
        ...

    async def due(self, *, every: timedelta, forgotten: timedelta) -> Following | None:
        """The kind to be looked at next: not looked at for `every`, and wished for by some worker within `forgotten`."""
        ...

    async def of_kind(self, kind: str) -> Following | None:
        """What one kind follows; None when it follows nothing."""
        ...

    async def looked(self, kind: str) -> None:
        """Nothing was to be changed for a kind."""
        ...

    async def change(self, kind: str, before: InForce, after: InForce, *, actor: str) -> bool:
        """Put values in force and record why; false when they are not what they were `before` any more."""
        ...


class Past(Protocol):
    """The way back: the moments that are remembered, and reading as of one of them."""

    async def at(self, moment: datetime) -> Insights:
        """The same questions, answered as of the last moment remembered at or before this one. Raises PastUnknown."""
        ...


class Moments(Protocol):
    """What is remembered of the passing of time: each moment is a cut through all transactions."""

    async def mark(self) -> None:
        """Remember the present moment."""
        ...

    async def thin(self, *, keep: timedelta) -> int:
        """Forget moments past `keep`, and all but one of a minute that is not recent; gives how many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One table as it is to be saved: its columns and the query that gives its rows, about `estimate` of them."""

    name: str
    columns: tuple[str, ...]
    query: str
    estimate: int


class Frozen(Protocol):
    """One consistent look at a system, held open while its tables are copied."""

    cut: str
    saved_cut: str
    at: datetime
    era: int
    installation: UUID
    migration: int
    days: Sequence[datetime]
    parts: Sequence[Saved]
    server: str

    async def copy(self, part: Saved, sink: Callable[[bytes], Coroutine[Any, Any, None]]) -> int:
        """Write the rows of one part as lines to `sink`, and give their number; several parts may be copied at once."""
        ...


class Archive(Protocol):
    """A database as something to be saved whole and brought back whole."""

    def frozen(self, base: Manifest | RecordedCut | None = None) -> AbstractAsyncContextManager[Frozen]:
        """Hold one snapshot of everything, of what was written since `base`, or of a recorded cut; nobody is held up."""
        ...

    async def recorded(self, moment: datetime, bases: Sequence[Manifest]) -> RecordedCut | Manifest:
        """The last cut remembered at or before a moment, with the newest of these snapshots, which lies before it.

        That snapshot alone, when nothing later is remembered until then. Raises PastUnknown, SnapshotUnusable when none of them is of this
        system, SchemaMissing, SchemaOutdated and DatabaseUnavailable.
        """
        ...

    async def refuse_full(self) -> None:
        """Raise NotEmpty when this database holds anything."""
        ...

    async def bring_back(
        self, chain: Sequence[Manifest], parts: PartsOf, *, fork: bool, actor: str
    ) -> Mapping[str, int]:
        """Write a snapshot into an empty database, whole or not at all, and give how many rows each table got.

        What ran is available again, recorded as given back. A fork has a name of its own and its queues are paused.
        Raises NotEmpty.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a stream: its length, what is stored of it, and the SHA-256 of that."""

    bytes: int
    stored_bytes: int
    digest: str


class Inlet(Protocol):
    """A file that is being written, in bounded memory."""

    async def write(self, data: bytes) -> None: ...

    @property
    def stored(self) -> Stored:
        """What was written; whole once the context has ended."""
        ...


class Vault(Protocol):
    """Where snapshots are kept: a folder or an object store. Every error is SnapshotsUnavailable.

    Names are paths with slashes.
    """

    def writing(self, name: str, sealer: Chunks | None = None) -> AbstractAsyncContextManager[Inlet]:
        """Write a compressed file, sealed or plain, piece by piece; it is there when the context has ended without an error."""
        ...

    def reading(self, name: str) -> AsyncIterator[bytes]:
        """Read such a file piece by piece, as it is stored. Raises ValueError when it is not there."""
        ...

    def plain(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Decompress pieces. Raises ValueError when they are damaged or end early."""
        ...

    async def put(self, name: str, data: bytes) -> None:
        """Write a small file whole or not at all."""
        ...

    async def get(self, name: str) -> bytes | None:
        """A small file, or None."""
        ...

    async def names(self, folder: str) -> Sequence[str]:
        """The files in a folder and below it, by their whole names."""
        ...

    async def delete(self, names: Sequence[str]) -> None: ...
