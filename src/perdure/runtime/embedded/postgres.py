"""One PostgreSQL cluster and the process that serves it."""

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from perdure.runtime.embedded.binaries import PostgresBinaries
from perdure.runtime.embedded.errors import (
    DataFolderInUse,
    DataVersionMismatch,
    NotADataFolder,
    ServerDidNotStart,
)
from perdure.runtime.embedded.layout import unfinished
from perdure.runtime.embedded.run_as import RunAs, command_as, hand_over
from perdure.runtime.embedded.run_directory import POSTGRES_PORT
from perdure.runtime.embedded.server_process import ServerProcess, Start

SUPERUSER = "postgres"
INITDB_OPTIONS = ("-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-locale")
DEVELOPMENT_SETTINGS: Mapping[str, str] = {"shared_buffers": "128MB", "max_connections": "100"}
COMMAND_WITHIN_S = 120
FAST_STOP = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))
"""SIGINT is PostgreSQL's fast stop; its SIGTERM would wait for every open client."""
IMMEDIATE_STOP = ((signal.SIGQUIT, 5.0),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSetup:
    """What one cluster is made of. `throwaway` skips the flush of a new cluster; fsync is a setting like others."""

    binaries: PostgresBinaries
    run_as: RunAs
    data: Path
    sockets: Path
    log: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    throwaway: bool = False
    inherited: Sequence[int] = ()


class PostgresServer:
    """Makes the cluster when there is none, serves it on a private Unix socket, and stops it cleanly."""

    def __init__(self, setup: PostgresSetup) -> None:
        self._setup = setup
        self._process: ServerProcess | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def url(self, database: str, sockets: Path | None = None) -> str:
        """The address; `sockets` is another name of the folder of its sockets."""
        host = sockets or self._setup.sockets
        return f"postgresql://{SUPERUSER}@/{database}?host={host}&port={POSTGRES_PORT}"

    def start(self) -> None:
        """Serve the cluster; returns when it takes connections."""
        self._make_cluster()
        self._remove_stale_pid_file()
        self._process = process = ServerProcess(self._start_line())
        try:
            process.wait_until(lambda: _serves(self._setup.data, process.pid))
        except ServerDidNotStart:
            process.stop(IMMEDIATE_STOP)
            raise

    def stop(self, *, immediate: bool = False) -> None:
        """End the server: `immediate` leaves the data as a crash would, to be recovered by the next start."""
        if self._process:
            self._process.stop(IMMEDIATE_STOP if immediate else FAST_STOP)
            self._process = None

    def ensure_database(self, name: str) -> None:
        """Create the database at the cluster's first start."""
        made = self._setup.data / f"{name}.created"
        if made.exists():
            return
        address = ("-h", str(self._setup.sockets), "-p", str(POSTGRES_PORT), "-U", SUPERUSER)
        try:
            self._run("createdb", *address, name)
        except ServerDidNotStart as error:
            if "already exists" not in error.message:  # made just before an earlier start was killed
                raise
        made.touch()

    def _make_cluster(self) -> None:
        data, binaries = self._setup.data, self._setup.binaries
        if data.is_dir() and any(data.iterdir()):
            require_same_version(data, binaries)
            hand_over(data, self._setup.run_as)
            return
        new = unfinished(data)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        hand_over(new, self._setup.run_as)
        sync = ("--no-sync",) if self._setup.throwaway else ()
        self._run("initdb", "-D", str(new), *INITDB_OPTIONS, *sync)
        if data.is_dir():
            data.rmdir()
        new.rename(data)

    def _start_line(self) -> Start:
        setup = self._setup
        settings = {"listen_addresses": "", **DEVELOPMENT_SETTINGS, **setup.settings}
        switches = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        places = ["-D", str(setup.data), "-k", str(setup.sockets), "-p", str(POSTGRES_PORT)]
        return Start(
            name="PostgreSQL",
            command=[setup.binaries.program("postgres"), *places, *switches],
            log=setup.log,
            run_as=setup.run_as,
            death_signal=signal.SIGINT,
            inherited=setup.inherited,
        )

    def _remove_stale_pid_file(self) -> None:
        """Forget a crashed server, whose number may belong to another process by now."""
        pid_file = self._setup.data / "postmaster.pid"
        pid = _pid_in(pid_file)
        if pid is None:
            return
        if _is_postgres_on(pid, self._setup.data):
            raise DataFolderInUse(
                f"another PostgreSQL (process {pid}) serves {self._setup.data}, and Perdure did not start it",
                next_step=f"stop it (`kill -INT {pid}`), or choose another data folder",
            )
        pid_file.unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._setup.binaries.program(program), *arguments]
        try:
            done = subprocess.run(
                command_as(self._setup.run_as, command, death_signal=signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_WITHIN_S,
                cwd="/",
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ServerDidNotStart(
                f"{program} was not done after {COMMAND_WITHIN_S} s",
                next_step="look whether the disk is full or very slow; `perdure doctor` measures it",
            ) from None
        if done.returncode != 0:
            why = (done.stderr or done.stdout).strip()
            raise ServerDidNotStart(
                f"{program} failed with exit code {done.returncode}:\n{why}",
                next_step="mend what the message names; `perdure doctor` shows which programs are used",
            )


def require_same_version(data: Path, binaries: PostgresBinaries) -> None:
    """Refuse data of another major version, which these programs cannot read."""
    try:
        written_by = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise NotADataFolder(
            f"{data} is not empty and holds no PostgreSQL data (there is no PG_VERSION in it)",
            next_step="choose another data folder, or move the strange files away",
        ) from None
    if written_by != str(binaries.major):
        raise DataVersionMismatch(
            f"the data in {data} was written by PostgreSQL {written_by}, but the programs found are "
            f"PostgreSQL {binaries.version} ({binaries.source}: {binaries.folder}), and those cannot read it",
            next_step=f"name programs of version {written_by}, or dump the data with those and load it into a new "
            "data folder, or start with `fresh` and lose it",
        )


def _serves(data: Path, pid: int) -> bool:
    """Line 8 says `ready`, and line 1 our number: after a crash the stale file still says `ready`."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready" and lines[0].strip() == str(pid)


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _is_postgres_on(pid: int, data: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return "postgres" in process.name() and Path(process.cwd()).samefile(data)
    except (psutil.Error, OSError):
        return False
