"""Snapshots: take them, look at them, check them, prune them, and bring one back into an empty database."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic

import msgspec

from perdure.domain.errors import (
    DatabaseUnavailable,
    NotFound,
    PastUnknown,
    PerdureError,
    SchemaMissing,
    SnapshotUnusable,
)
from perdure.domain.snapshot import (
    FORMAT,
    MANIFEST,
    Difference,
    Encryption,
    HalfSnapshot,
    Manifest,
    Part,
    RecordedCut,
    SnapshotKind,
    chain_of,
    checked_id,
    difference,
    to_prune,
)
from perdure.domain.snapshot_sealing import PLAIN, SnapshotCipher, SnapshotSealing
from perdure.state_ports import Archive, Frozen, Saved, Vault

CODE = "manifest.hmac"
BEGUN = "begun.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the writing or checking of a snapshot has come; `part` is the one that was done last."""

    part: str
    parts: int
    of_parts: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore wrote, and from which snapshots.

    Of a recovery to a time, `gap_s` says by how many seconds what was restored lies before it, and `why` why no history leads further.
    """

    snapshot: str
    at: datetime
    chain: tuple[str, ...]
    rows: dict[str, int]
    fork: bool
    took_s: float
    asked: datetime | None = None
    gap_s: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How near to a time a recovery gets: from which snapshot on, to what commit, and why not nearer.

    `recorded` is the cut that the history of a living database leads to; None when the snapshot is all there is.
    """

    asked: datetime
    at: datetime
    snapshot: Manifest
    recorded: RecordedCut | None = None
    why: str = ""

    @property
    def gap_s(self) -> float:
        """Seconds between what comes back and the time asked for."""
        return (self.asked - self.at).total_seconds()


Heard = Callable[[Progress], None]
Seen = Callable[[bytes], None]


def unheard(_: Progress) -> None:
    """For callers that do not follow the progress."""


def unseen(_: bytes) -> None:
    """For callers that need no piece as it is stored."""


class Snapshots:
    """Takes and keeps snapshots of one database in one vault.

    A snapshot is a folder of the vault: one compressed file for each table and, written last, the manifest. Without a
    manifest it is half, and never offered. Whatever acts on an encrypted one needs its key; lists and comparisons tell what
    the manifests say.
    """

    def __init__(self, archive: Archive, vault: Vault, sealing: SnapshotSealing = PLAIN) -> None:
        self._archive = archive
        self._vault = vault
        self._sealing = sealing

    async def create(
        self, *, base: str | None = None, automatic: bool = False, heard: Heard = unheard
    ) -> Manifest:
        """Save everything that is committed now, or what was written since `base`; nobody who works is held up.

        Raises SnapshotsUnavailable, DatabaseUnavailable, SnapshotUnusable (for the base), and InvalidSettings where it is to be
        encrypted without a key.
        """
        earlier = None if base is None else (await self._chain(base))[-1]
        return await self._take(earlier, automatic=automatic, heard=heard)

    async def list(self) -> Sequence[Manifest]:
        """The whole snapshots, the newest first."""
        folders = await self._folders()
        found = [await self.get(folder) for folder, files in folders.items() if MANIFEST in files]
        return sorted(found, key=lambda manifest: manifest.at, reverse=True)

    async def half(self) -> Sequence[HalfSnapshot]:
        """Those that were begun and have no manifest, the newest first."""
        folders = await self._folders()
        return [
            HalfSnapshot(id=folder)
            for folder, files in sorted(folders.items(), reverse=True)
            if MANIFEST not in files
        ]

    async def get(self, id: str) -> Manifest:
        """One snapshot. Raises NotFound and SnapshotUnusable."""
        return _read(id, await self._manifest(id))

    async def trusted(self, id: str) -> Manifest:
        """One snapshot, to act on it: who wrote it had its key, where it is encrypted. Raises NotFound, SnapshotUnusable and SnapshotLocked."""
        data = await self._manifest(id)
        manifest = _read(id, data)
        self._sealing.refuse_untrusted(manifest, data, await self._vault.get(f"{id}/{CODE}"))
        return manifest

    async def newest_before(self, moment: datetime) -> Manifest:
        """The newest snapshot of a time at or before this one. Raises PastUnknown, which names the earliest there is."""
        known = await self.list()
        found = next((manifest for manifest in known if manifest.at <= moment), None)
        if found is None:
            earliest = known[-1].at if known else None
            why = (
                f"the earliest snapshot is of {earliest.isoformat()}" if earliest else "there is no snapshot"
            )
            raise PastUnknown(
                f"no snapshot is of {moment.isoformat()} or before; {why}",
                earliest=earliest,
                next_step="see `perdure snapshot list`",
            )
        return found

    async def verify(self, id: str, *, heard: Heard = unheard) -> Sequence[Manifest]:
        """Read every file again that `id` needs and compare length, digest and number of rows; gives what was read.

        Raises SnapshotUnusable, which names the part, and SnapshotLocked, which names the key.
        """
        chain = await self._chain(id)
        for manifest in chain:
            rows = 0
            for number, part in enumerate(manifest.parts, start=1):
                await self._verify(manifest, part)
                rows += part.rows
                heard(Progress(part=part.name, parts=number, of_parts=len(manifest.parts), rows=rows))
        return chain

    async def restore(
        self, id: str, into: Archive, *, fork: bool, actor: str, heard: Heard = unheard
    ) -> Restored:
        """Bring a snapshot back into an empty database: every file is checked before the database is touched.

        The restore is whole or leaves nothing. A fork is paused. Raises SnapshotUnusable, SnapshotLocked and NotEmpty.
        """
        began = monotonic()
        chain = await self.verify(id, heard=heard)
        rows = await into.bring_back(chain, self._lines, fork=fork, actor=actor)
        return Restored(
            snapshot=id,
            at=chain[-1].at,
            chain=tuple(manifest.id for manifest in chain),
            rows=dict(rows),
            fork=fork,
            took_s=round(monotonic() - began, 3),
        )

    async def reach(self, moment: datetime) -> Reach:
        """How near to a time a recovery would get; nothing is changed.

        Raises PastUnknown, which names the earliest time that can be recovered, or the moments beside one that nobody remembers.
        """
        nearest = await self.newest_before(moment)
        known = [manifest for manifest in await self.list() if manifest.at <= moment]
        try:
            found = await self._archive.recorded(moment, known)
        except (SchemaMissing, DatabaseUnavailable, SnapshotUnusable) as error:
            return Reach(asked=moment, at=nearest.at, snapshot=nearest, why=_lost(error))
        except PastUnknown as error:
            if error.earliest is not None and error.earliest <= moment:
                raise
            return Reach(asked=moment, at=nearest.at, snapshot=nearest, why=_lost(error))
        if isinstance(found, RecordedCut):
            return Reach(asked=moment, at=found.at, snapshot=found.base, recorded=found)
        return Reach(asked=moment, at=found.at, snapshot=found)

    async def recover(
        self, moment: datetime, into: Archive, *, fork: bool, actor: str, heard: Heard = unheard
    ) -> Restored:
        """Bring back what had been committed at a time, into an empty database.

        The newest snapshot of that time or before, and what the database still remembers from there on, which is saved as a further,
        automatic snapshot; without that database up to the snapshot. Raises what `reach` and `restore` raise.
        """
        reach = await self.reach(moment)
        await self._chain(reach.snapshot.id)
        await into.refuse_full()
        wanted = reach.snapshot
        if reach.recorded is not None:
            wanted = await self._take(reach.recorded, automatic=True, heard=heard)
        done = await self.restore(wanted.id, into, fork=fork, actor=actor, heard=heard)
        return replace(done, asked=moment, gap_s=reach.gap_s, why=reach.why)

    async def diff(self, first: str, second: str) -> Difference:
        """How many rows each table had in two full snapshots. Raises NotFound, and SnapshotUnusable for an increment."""
        return difference(await self.get(first), await self.get(second))

    async def delete(self, id: str) -> None:
        """Delete a snapshot, whole or half, its manifest first. Raises NotFound, and SnapshotUnusable while another builds on it."""
        files = await self._vault.names(checked_id(id))
        if not files:
            raise NotFound("snapshot", id, next_step="see `perdure snapshot list`")
        needing = [manifest.id for manifest in await self.list() if manifest.base == id]
        if needing:
            raise SnapshotUnusable(id, f"is needed by {', '.join(needing)}", next_step="delete those first")
        await self._vault.delete(sorted(files, key=lambda name: not name.endswith(MANIFEST)))

    async def prune(self, keep: int) -> Sequence[str]:
        """Delete automatic snapshots beyond the newest `keep`, but none that another builds on; gives their ids."""
        pruned = to_prune(await self.list(), keep)
        for each in pruned:
            await self.delete(each)
        return pruned

    async def _take(self, base: Manifest | RecordedCut | None, *, automatic: bool, heard: Heard) -> Manifest:
        began = monotonic()
        earlier = base.base if isinstance(base, RecordedCut) else base
        encryption = self._sealing.of_new(earlier)
        async with self._archive.frozen(base) as frozen:
            named = f"{frozen.at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
            await self._vault.put(
                f"{named}/{BEGUN}", msgspec.json.encode({"format": FORMAT, "id": named, "at": frozen.at})
            )
            cipher = None if encryption is None else self._sealing.cipher(named, encryption)
            parts = await self._save(named, frozen, cipher, heard)
        manifest = Manifest(
            id=named,
            kind=SnapshotKind.FULL if earlier is None else SnapshotKind.INCREMENTAL,
            cut=frozen.cut,
            saved_cut=frozen.saved_cut,
            at=frozen.at,
            era=frozen.era,
            installation=frozen.installation,
            migration=frozen.migration,
            parts=tuple(parts),
            days=tuple(frozen.days),
            base=None if earlier is None else earlier.id,
            automatic=automatic,
            recorded=isinstance(base, RecordedCut),
            took_s=round(monotonic() - began, 3),
            server=frozen.server,
            encryption=encryption,
        )
        written = msgspec.json.format(msgspec.json.encode(manifest))
        if cipher is not None:
            await self._vault.put(f"{named}/{CODE}", cipher.code(written))
        await self._vault.put(f"{named}/{MANIFEST}", written)
        return manifest

    async def _chain(self, id: str) -> Sequence[Manifest]:
        await self.get(id)
        found = chain_of(id, await self.list())
        return chain_of(id, [await self.trusted(manifest.id) for manifest in found])

    async def _manifest(self, id: str) -> bytes:
        data = await self._vault.get(f"{checked_id(id)}/{MANIFEST}")
        if data is None:
            raise NotFound("snapshot", id, next_step="see `perdure snapshot list`")
        return data

    async def _folders(self) -> dict[str, set[str]]:
        folders: dict[str, set[str]] = {}
        for name in await self._vault.names(""):
            folder, _, file = name.partition("/")
            if file in {MANIFEST, BEGUN}:
                folders.setdefault(folder, set()).add(file)
        return folders

    async def _save(
        self, id: str, frozen: Frozen, cipher: SnapshotCipher | None, heard: Heard
    ) -> Sequence[Part]:
        """All parts, the largest first, so that the copies end together."""
        done: dict[str, Part] = {}

        async def save(saved: Saved) -> None:
            sealer = None if cipher is None else cipher.sealer(saved.name)
            async with self._vault.writing(_file(id, saved.name, cipher), sealer) as inlet:
                rows = await frozen.copy(saved, inlet.write)
            stored = inlet.stored
            done[saved.name] = Part(
                name=saved.name,
                columns=saved.columns,
                rows=rows,
                bytes=stored.bytes,
                stored_bytes=stored.stored_bytes,
                digest=stored.digest,
            )
            total = sum(part.rows for part in done.values())
            heard(Progress(part=saved.name, parts=len(done), of_parts=len(frozen.parts), rows=total))

        async with asyncio.TaskGroup() as group:
            for saved in sorted(frozen.parts, key=lambda saved: saved.estimate, reverse=True):
                group.create_task(save(saved))
        return [done[saved.name] for saved in frozen.parts]

    async def _verify(self, manifest: Manifest, part: Part) -> None:
        digest, stored, size, rows = hashlib.sha256(), 0, 0, 0

        def count(piece: bytes) -> None:
            nonlocal stored
            digest.update(piece)
            stored += len(piece)

        async for plain in self._lines(manifest, part, count):
            size += len(plain)
            rows += plain.count(b"\n")
        found = (stored, digest.hexdigest(), size, rows)
        if found != (part.stored_bytes, part.digest, part.bytes, part.rows):
            raise SnapshotUnusable(
                manifest.id, "is not what the manifest says; it was changed or cut off", part=part.name
            )

    async def _lines(self, manifest: Manifest, part: Part, seen: Seen = unseen) -> AsyncIterator[bytes]:
        """What COPY reads; `seen` gets each piece as it is stored. Raises SnapshotUnusable."""
        try:
            async for plain in self._vault.plain(self._opened(manifest, part, seen)):
                yield plain
        except ValueError as error:
            raise SnapshotUnusable(manifest.id, str(error), part=part.name) from error

    async def _opened(self, manifest: Manifest, part: Part, seen: Seen) -> AsyncIterator[bytes]:
        sealed = manifest.encryption
        opener = sealed and self._sealing.cipher(manifest.id, sealed).opener(part.name)
        async for piece in self._vault.reading(_file(manifest.id, part.name, sealed)):
            seen(piece)
            if opened := opener.update(piece) if opener else piece:
                yield opened
        if opener:
            yield opener.end()


def _file(id: str, part: str, sealed: Encryption | SnapshotCipher | None) -> str:
    return f"{id}/{part}.copy.zst{'.sealed' if sealed else ''}"


def _read(id: str, data: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise SnapshotUnusable(id, f"cannot be read: {error}", part=MANIFEST) from error
    if manifest.format != FORMAT or manifest.id != id:
        raise SnapshotUnusable(id, f"is not a {FORMAT} of this id", part=MANIFEST)
    return manifest


def _lost(error: PerdureError) -> str:
    return f"no history leads further: {error.args[0]}"
