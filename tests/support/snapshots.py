"""Snapshots for tests: manifests out of nothing, and damage to files."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from perdure.domain.snapshot import Manifest, SnapshotKind
from perdure.stores.postgres.archive import PostgresArchive

OLD, NEW = (
    f"{name}:{base64.b64encode(bytes([number] * 32)).decode()}"
    for number, name in enumerate(("old", "new"), start=1)
)
KEYS = f"{NEW},{OLD}"
NOWHERE = PostgresArchive("postgresql://nobody@127.0.0.1:1/nothing")
"""A database that whoever touches it cannot reach."""


def manifest_of(number: int, *, automatic: bool, base: str | None = None) -> Manifest:
    return Manifest(
        id=f"s{number}",
        kind=SnapshotKind.FULL,
        cut="1:1:",
        saved_cut="1:1:",
        at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=number),
        era=0,
        installation=UUID(int=1),
        migration=1,
        parts=(),
        days=(),
        base=base,
        automatic=automatic,
    )


def damage(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    elif how == "truncated":
        del data[-3:]
    elif how == "longer":
        data += b"\0"
    path.write_bytes(data)
