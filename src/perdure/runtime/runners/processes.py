"""Runs CPU-bound handlers in processes of their own, one job at a time in each, so that one can be killed alone."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

import msgspec
import structlog

from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Crashed, Ending, Interrupted
from perdure.runtime.lines import AttemptLine
from perdure.runtime.runners import frames
from perdure.runtime.runners.endings import Kinds, after_stop, told
from perdure.runtime.runners.process_main import Hello, ending_from
from perdure.runtime.sealing import OpenedLease
from perdure.services.execution import Attempt, Done

NOT_STARTED_PAUSE_S = 1.0
DISMISSAL_S = 3.0

log = structlog.get_logger("perdure.process")


class ProcessRunner:
    """The runner of CPU-bound handlers.

    A process that dies under a job is that job's own crash, for nothing else ran in it. Processes are
    started as they are needed, kept for the next job, and replaced after they died.
    """

    def __init__(
        self,
        kinds: Kinds,
        line_of: Callable[[Attempt], AttemptLine],
        hello: Hello,
    ) -> None:
        self._kinds = kinds
        self._line_of = line_of
        self._hello = hello
        self._idle: list[_Process] = []
        self._busy: dict[Attempt, _Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, attempt: Attempt, done: Done) -> None:
        task = asyncio.get_running_loop().create_task(self._run(attempt, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        attempt.handle = task

    def stop(self, attempt: Attempt) -> bool:
        process = self._busy.get(attempt)
        if process is not None:
            process.kill()
        return True

    def timed_out(self, attempt: Attempt) -> Ending:
        return after_stop(self._kinds[attempt.lease.kind], attempt)

    async def close(self) -> None:
        for process in self._busy.values():
            process.kill()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(process.dismiss() for process in idle))

    async def _run(self, attempt: Attempt, done: Done) -> None:
        done(attempt, await told(self._kinds, attempt, self._ending(attempt)))

    async def _ending(self, attempt: Attempt) -> Ending | None:
        """Have a process run the job, and tell its end; None when the handler settled it in its own transaction."""
        try:
            process = self._idle.pop() if self._idle else await _Process.spawn(self._hello)
        except OSError as error:
            return await self._not_started(attempt, f"no process could be started: {error}")
        self._busy[attempt] = process
        line = self._line_of(attempt)
        ending: Ending | None = None
        try:
            if attempt.stop_reason is None:
                ending = await process.call(attempt.lease, line)
        except BaseException:
            await process.autopsy()  # it may still run the job, and nobody would read its answer
            raise
        finally:
            del self._busy[attempt]
        if ending is not None:
            self._idle.append(process)
        else:
            cause = await process.autopsy()
            stopped = attempt.stop_reason is not None
            if stopped or process.took_it:
                kind = self._kinds[attempt.lease.kind]
                ending = after_stop(kind, attempt) if stopped else Crashed(cause=cause, alone=True)
            else:
                ending = await self._not_started(attempt, cause)
        return await line.after_complete(_unless_done(ending)) if line.completed else ending

    async def _not_started(self, attempt: Attempt, why: str) -> Ending:
        """Not the job's fault: it goes back uncounted, after a pause, for the next process may fare no better."""
        log.warning("a process for CPU-bound jobs did not start", why=why)
        await asyncio.sleep(NOT_STARTED_PAUSE_S)
        if attempt.stop_reason is not None:
            return after_stop(self._kinds[attempt.lease.kind], attempt)
        return Interrupted(cause=f"released before it started: {why}", started=False)


class _Process:
    """One process that runs one job at a time."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.took_it = False
        """Whether the process has begun with the job that it was given."""

    @classmethod
    async def spawn(cls, hello: Hello) -> "_Process":
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "perdure.runtime.runners.process_main",
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                )
            except BaseException:
                ours.close()
                raise
        reader, writer = await frames.connect(ours)
        writer.write(frames.pack(msgspec.structs.replace(hello, parent=os.getpid())))
        return cls(process, reader, writer)

    async def call(self, lease: Lease, line: AttemptLine) -> Ending | None:
        """Run one job; None when the process died under it."""
        self.took_it = False
        try:
            self._writer.write(
                frames.pack({"job": msgspec.to_builtins(lease), "opened": isinstance(lease, OpenedLease)})
            )
            await self._writer.drain()
        except ConnectionError:
            return None
        while (message := await frames.read(self._reader)) is not None:
            if "took" in message:
                self.took_it = True
            elif "progress" in message:
                await line.progress(message["progress"], message["note"])
            elif "completed" in message:
                line.completed = True
            else:
                return ending_from(message)
        return None

    async def dismiss(self) -> None:
        """Let it end by itself, as it does when nobody is there to give it jobs; kill it when it does not."""
        self._writer.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), DISMISSAL_S)
        await self.autopsy()

    async def autopsy(self) -> str:
        """How the process died, in words."""
        self.kill()
        code = await self._process.wait()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        return f"its process {death(code)}"

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()


def _unless_done(ending: Ending) -> Ending | None:
    return None if isinstance(ending, Completed) else ending


def death(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"
