"""Faults for tests, done to the real processes of a worker on this host by signals.

A worker is named by what `app.workers.spawn` gave, by the pid of its supervisor, or by its id.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Self
from uuid import UUID

import psutil

from perdure.domain.errors import NotFound
from perdure.runtime.operations import SpawnedWorker

GONE_WITHIN_S = 10.0
LOOK_S = 0.005

WorkerOnThisHost = SpawnedWorker | UUID | int


class Stopped:
    """Processes that are stopped and go on when the time is up, when `end` is called or when the `with` block ends."""

    def __init__(self, processes: Sequence[psutil.Process], seconds: float | None) -> None:
        self._processes = processes
        self._timer = None if seconds is None else threading.Timer(seconds, self.end)
        _send(processes, signal.SIGSTOP)
        _wait_until_stopped(processes)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """Let them go on."""
        if self._timer is not None:
            self._timer.cancel()
        _send(self._processes, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def pause_heartbeat(worker: WorkerOnThisHost, seconds: float | None = None) -> Stopped:
    """Stop the supervisor of a worker and with it the heartbeats, while its processes go on with their jobs.

    It goes on after `seconds`, or at the end of a `with` block.
    """
    return Stopped([_supervisor(worker)], seconds)


def transient_failure(worker: WorkerOnThisHost, seconds: float | None = None) -> Stopped:
    """Freeze a worker with all its processes, as a machine that hangs or is cut off, for a while."""
    return Stopped(_tree(worker), seconds)


def crash(worker: WorkerOnThisHost) -> None:
    """Kill a worker with all its processes at once, as a machine that loses its power; returns when they are gone."""
    processes = _tree(worker)
    _send(processes, signal.SIGKILL)
    end = monotonic() + GONE_WITHIN_S
    while any(is_alive(process) for process in processes) and monotonic() < end:
        sleep(LOOK_S)


def _supervisor(worker: WorkerOnThisHost) -> psutil.Process:
    try:
        if isinstance(worker, SpawnedWorker):
            return psutil.Process(worker.process.pid)
        if isinstance(worker, int):
            return psutil.Process(worker)
    except psutil.NoSuchProcess:
        raise NotFound("process of worker", worker) from None
    child = next(_processes_of(worker), None)
    supervisor = None if child is None else child.parent()
    if supervisor is None:
        raise NotFound(
            "worker", worker, next_step="faults reach only workers on this host that have a process"
        )
    return supervisor


def _processes_of(worker_id: UUID) -> Iterator[psutil.Process]:
    """The processes of a worker carry its id in their arguments."""
    ending = f"of worker {worker_id}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            arguments = process.cmdline()
            if arguments and arguments[-1].endswith(ending):
                yield process


def _tree(worker: WorkerOnThisHost) -> list[psutil.Process]:
    """The supervisor first, stopped so that it cannot start another process while they are counted."""
    supervisor = _supervisor(worker)
    supervisor.suspend()
    return [supervisor, *supervisor.children(recursive=True)]


def is_alive(process: psutil.Process) -> bool:
    """Whether it still does anything; one that only waits to be counted by its parent does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until_stopped(processes: Sequence[psutil.Process]) -> None:
    """A process that is on a processor stops a moment after the signal."""
    end = monotonic() + GONE_WITHIN_S
    while any(is_alive(process) and not _stopped(process) for process in processes) and monotonic() < end:
        sleep(LOOK_S)


def _stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return True


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
