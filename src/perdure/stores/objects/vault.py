"""Snapshots in a folder or an object store: compressed streams, digests, and small files."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from perdure.domain.errors import InvalidSettings, SnapshotsUnavailable
from perdure.domain.snapshot_sealing import Chunks
from perdure.state_ports import Stored

try:
    import zstandard
    from fsspec.core import url_to_fs
except ImportError as error:  # pragma: no cover - told to whoever lacks the extra
    raise SnapshotsUnavailable(
        f"{error.name} is not installed", next_step="pip install 'perdure[state]'"
    ) from error

LEVEL = 3
PIECE = 1 << 20
BUFFER = 8 << 20


@contextmanager
def _translated(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SnapshotsUnavailable(
            f"{place} cannot be used ({type(error).__name__}: {error})",
            next_step="check that it exists, has room and may be written",
        ) from error


class ObjectVault:
    """The port `Vault` on a folder (`/path`, `file:///path`) or an object store (`s3://bucket/prefix`, `gs://`, `az://`).

    The object stores need their fsspec package (s3fs, gcsfs, adlfs); credentials are found as those find them. What
    blocks runs in threads.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        try:
            self._files, self._root = url_to_fs(place)
        except (ImportError, ValueError, OSError) as error:
            raise InvalidSettings("snapshots", f"{place!r} cannot be used: {error}") from error

    @asynccontextmanager
    async def writing(self, name: str, sealer: Chunks | None = None) -> "AsyncIterator[CompressedFile]":
        with _translated(self._place):
            file = await asyncio.to_thread(self._opened, name)
            inlet = CompressedFile(file, sealer)
            try:
                yield inlet
                await inlet.end()
                await asyncio.to_thread(_commit, file)
            except BaseException:
                with suppress(OSError):
                    await asyncio.to_thread(_discard, file)
                raise

    async def reading(self, name: str) -> AsyncIterator[bytes]:
        with _translated(self._place):
            try:
                file = await asyncio.to_thread(self._files.open, self._path(name), "rb", block_size=BUFFER)
            except FileNotFoundError:
                raise ValueError("it is not there") from None
            try:
                while piece := await asyncio.to_thread(file.read, PIECE):
                    yield piece
            finally:
                await asyncio.to_thread(file.close)

    async def plain(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        try:
            async for piece in pieces:
                if plain := decompressor.decompress(piece):
                    yield plain
        except zstandard.ZstdError as error:
            raise ValueError(f"it is damaged: {error}") from error
        if not decompressor.eof:
            raise ValueError("it ends early")

    async def put(self, name: str, data: bytes) -> None:
        def write() -> None:
            file = self._opened(name)
            file.write(data)
            _commit(file)

        with _translated(self._place):
            await asyncio.to_thread(write)

    async def get(self, name: str) -> bytes | None:
        with _translated(self._place):
            try:
                found: bytes = await asyncio.to_thread(self._files.cat_file, self._path(name))
            except FileNotFoundError:
                return None
            return found

    async def names(self, folder: str) -> Sequence[str]:
        def find() -> list[str]:
            self._files.invalidate_cache()
            return list(self._files.find(self._path(folder)))

        with _translated(self._place):
            found = await asyncio.to_thread(find)
        skipped = len(self._root.rstrip("/")) + 1
        return sorted(path[skipped:] for path in found)

    async def delete(self, names: Sequence[str]) -> None:
        def remove() -> None:
            for name in names:
                self._files.rm_file(self._path(name))
            folders = {self._path(name).rpartition("/")[0] for name in names}
            for folder in folders:
                with suppress(OSError):
                    self._files.rmdir(folder)

        with _translated(self._place):
            await asyncio.to_thread(remove)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def _opened(self, name: str) -> Any:
        path = self._path(name)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        return self._files.open(path, "wb", block_size=BUFFER, autocommit=False)


def _commit(file: Any) -> None:
    """Close a file and let it appear under its name, durably where it is a file of this machine."""
    file.flush()
    with suppress(AttributeError, NotImplementedError, OSError):
        os.fsync(file.fileno())
    file.close()
    file.commit()


def _discard(file: Any) -> None:
    file.close()
    file.discard()


class CompressedFile:
    """A file of the vault that is being written."""

    def __init__(self, writer: Any, sealer: Chunks | None = None) -> None:
        self._writer = writer
        self._sealer = sealer
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._digest = hashlib.sha256()
        self._plain = self._kept = 0

    async def write(self, data: bytes) -> None:
        self._plain += len(data)
        await self._keep(self._compressor.compress(data))

    async def end(self) -> None:
        """Write what the compressor and the cipher still hold."""
        await self._keep(self._compressor.flush())
        if self._sealer is not None:
            await self._store(self._sealer.end())

    @property
    def stored(self) -> Stored:
        return Stored(bytes=self._plain, stored_bytes=self._kept, digest=self._digest.hexdigest())

    async def _keep(self, piece: bytes) -> None:
        await self._store(piece if self._sealer is None else self._sealer.update(piece))

    async def _store(self, piece: bytes) -> None:
        if piece:
            self._digest.update(piece)
            self._kept += len(piece)
            await asyncio.to_thread(self._writer.write, piece)
