"""A snapshot: everything that a system holds at one cut, as files that outlive the database."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from perdure.domain.errors import InvalidOption, NotFound, SnapshotUnusable

FORMAT = "perdure.snapshot/1"
MANIFEST = "manifest.json"
LISTED = "see `perdure snapshot list`"
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")


class SnapshotKind(StrEnum):
    """Everything, or only what was written since another snapshot."""

    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The rows of one table in one file; `digest` is the SHA-256 of the file as it is stored."""

    name: str
    columns: tuple[str, ...]
    rows: int
    bytes: int
    stored_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """With which of the keys the files are sealed; the fingerprint tells it from another key of its id, both are in hexadecimal."""

    key: str
    fingerprint: str
    salt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a snapshot is; written last, so that a snapshot without one is half.

    `cut` tells which transactions are in it, as the database of that era numbered them; `saved_cut` in the numbers of
    the files. `days` are the day partitions that the rows need. A `recorded` increment was drawn from the history, up to
    a cut of the past: of the tables whose rows come and go it has all that they held then, so that nothing older counts.
    Digests are those of the files as they are stored, sealed where there is an `encryption`.
    """

    id: str
    kind: SnapshotKind
    cut: str
    saved_cut: str
    at: datetime
    era: int
    installation: UUID
    migration: int
    parts: tuple[Part, ...]
    days: tuple[datetime, ...]
    base: str | None = None
    automatic: bool = False
    recorded: bool = False
    took_s: float = 0.0
    server: str = ""
    encryption: Encryption | None = None
    format: str = FORMAT

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        return sum(part.stored_bytes for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCut:
    """A cut of the past that a living database remembers, and the snapshot from which its history leads there."""

    at: datetime
    cut: str
    newest: UUID
    open_since: datetime
    base: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfSnapshot:
    """A snapshot that was begun and has no manifest: it is being written, or its writer died. It is never restored."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two snapshots differ, by table: rows in the first, rows in the second."""

    first: str
    second: str
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)


def checked_id(id: str) -> str:
    """The id, if it is one; it becomes part of a path. Raises InvalidOption."""
    if not _ID.fullmatch(id):
        raise InvalidOption("snapshot", f"{id!r} is not the id of a snapshot", next_step=LISTED)
    return id


def to_prune(manifests: Sequence[Manifest], keep: int) -> list[str]:
    """The ids of the automatic snapshots beyond the newest `keep`, the newest first, but none that a kept one builds on.

    Those that somebody asked for are never among them.
    """
    newest_first = sorted(manifests, key=lambda manifest: manifest.at, reverse=True)
    automatic = [manifest for manifest in newest_first if manifest.automatic]
    kept = {manifest.id: manifest for manifest in newest_first if not manifest.automatic}
    kept |= {manifest.id: manifest for manifest in automatic[:keep]}
    needed, bases = set(kept), {manifest.id: manifest.base for manifest in manifests}
    for manifest in kept.values():
        base = manifest.base
        while base is not None:
            needed.add(base)
            base = bases.get(base)
    return [manifest.id for manifest in automatic if manifest.id not in needed]


def chain_of(id: str, manifests: Sequence[Manifest]) -> list[Manifest]:
    """The full snapshot and the increments that together make `id`, in order. Raises NotFound and SnapshotUnusable."""
    known = {manifest.id: manifest for manifest in manifests}
    chain: list[Manifest] = []
    wanted: str | None = id
    while wanted is not None:
        manifest = known.get(wanted)
        if manifest is None:
            if not chain:
                raise NotFound("snapshot", id, next_step=LISTED)
            raise SnapshotUnusable(id, f"needs {wanted}, which is not there", next_step=LISTED)
        if chain and manifest.installation != chain[-1].installation:
            raise SnapshotUnusable(id, f"builds on {wanted}, which is of another system")
        if chain and (manifest.encryption is None) != (chain[-1].encryption is None):
            what = (
                f"builds on {wanted}, and only one of them is encrypted; one was put there by somebody else"
            )
            raise SnapshotUnusable(id, what)
        chain.append(manifest)
        wanted = manifest.base
    return chain[::-1]


def difference(first: Manifest, second: Manifest) -> Difference:
    """How many rows each table had in two full snapshots. Raises SnapshotUnusable for an increment."""
    for each in (first, second):
        if each.kind is not SnapshotKind.FULL:
            raise SnapshotUnusable(each.id, "has only what is new in it", next_step="compare full snapshots")
    before, after = ({part.name: part.rows for part in each.parts} for each in (first, second))
    return Difference(
        first=first.id,
        second=second.id,
        rows={name: (before.get(name, 0), after.get(name, 0)) for name in sorted(before | after)},
    )
