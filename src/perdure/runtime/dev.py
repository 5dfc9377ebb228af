"""A worker for development: it is drained and started anew when the application's files change."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from perdure.domain.errors import BrokenApplication
from perdure.runtime.changes import Changes
from perdure.runtime.merged_log import LONGEST_LINE, Entry, entries
from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings
from perdure.runtime.spawning import start_worker
from perdure.runtime.trial import JobOfApp, try_out

SOURCE = "perdure"
KILL_GRACE_S = 3.0
KILLED = 130
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""A worker that ended by itself is started again after the first; each time that the next ends too, twice as late."""

Show = Callable[[Entry], None]
Ready = Callable[[Sequence[JobOfApp]], None]


class Development:
    """Keeps one worker on the newest version of an application that can be imported.

    A version that cannot is shown and waited out: the worker goes on with the version before. The first `stop`
    drains, the second kills.
    """

    def __init__(self, settings: Settings, app: str, show: Show, on_jobs: Ready) -> None:
        self._settings = settings
        self._app = app
        self._show = show
        self._on_jobs = on_jobs
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._worker: _DevelopmentWorker | None = None
        self._pause_s = 0.0

    async def run(self) -> int:
        """Work until stopped; 0 when the worker was drained, 130 when it had to be killed."""
        changes = Changes(folder_of(self._app))
        try:
            while not self._stopping.is_set():
                await self._renew()
                changed = await self._something(changes)
                if changed:
                    self._pause_s = 0.0
                    self._say(f"changed: {', '.join(changed)}")
        finally:
            killed = await self._end()
        return KILLED if killed else 0

    def stop(self) -> None:
        """Drain and end; said twice, end at once."""
        if self._stopping.is_set():
            self._say("ending at once; what runs is given back", "warning")
            self._killing.set()
        else:
            self._say("draining; once more ends at once", "warning")
            self._stopping.set()

    async def _renew(self) -> None:
        """Put the newest version to work, if it can be imported."""
        try:
            jobs = await try_out(self._app)
        except BrokenApplication as error:
            kept = "the version before goes on" if self._worker else "mend it, and it is tried again"
            self._show(
                Entry(
                    source=SOURCE,
                    text=f"{self._app} cannot be imported; {kept}",
                    level="error",
                    more=error.trace or f"{error.why}\n{error.next_step}",
                )
            )
            return
        if self._stopping.is_set():
            return
        await self._end()
        queues = dict.fromkeys([*self._settings.queues, *(job.queue for job in jobs)])
        settings = {**plain(self._settings), "queues": list(queues), "log_format": "json"}
        self._worker = await _DevelopmentWorker.start(self._app, settings, self._show)
        self._on_jobs(jobs)

    async def _something(self, changes: Changes) -> list[str]:
        """Wait for a change, for the end, or for the worker to go away; gives what has changed."""
        changing = asyncio.create_task(changes.next())
        waiting = [changing, asyncio.create_task(self._stopping.wait())]
        worker = self._worker
        if worker is not None:
            waiting.append(asyncio.create_task(worker.ended()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if changing.done():
                return changing.result()
            if worker is not None and waiting[-1].done() and not self._stopping.is_set():
                self._worker = None
                await asyncio.wait(
                    waiting[:2], timeout=self._pause_after(worker), return_when=asyncio.FIRST_COMPLETED
                )
                return changing.result() if changing.done() else []
            return []
        finally:
            for task in waiting:
                task.cancel()

    def _pause_after(self, worker: "_DevelopmentWorker") -> float:
        """How many seconds to wait before another takes the place of a worker that ended by itself; it is said."""
        longer = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._pause_s = FIRST_PAUSE_S if worker.lived_s > LONGEST_PAUSE_S else max(FIRST_PAUSE_S, longer)
        self._say(
            f"the worker ended {worker.how}; another starts in {self._pause_s:g} s, or at a change", "error"
        )
        return self._pause_s

    async def _end(self) -> bool:
        """Drain the worker; whether it had to be killed."""
        worker, self._worker = self._worker, None
        return worker is not None and await worker.end(self._killing)

    def _say(self, text: str, level: str = "info") -> None:
        self._show(Entry(source=SOURCE, text=text, level=level))


class _DevelopmentWorker:
    """A worker whose output is shown."""

    def __init__(self, process: asyncio.subprocess.Process, showing: asyncio.Task[None]) -> None:
        self._process = process
        self._showing = showing
        self._began = monotonic()

    @classmethod
    async def start(cls, app: str, settings: dict[str, object], show: Show) -> "_DevelopmentWorker":
        ours, theirs = os.pipe()
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: protocol, os.fdopen(ours, "rb")
        )
        try:
            process = await start_worker(app, settings, uuid.uuid4(), bound=True, output=theirs)
        except BaseException:
            transport.close()
            raise
        finally:
            os.close(theirs)
        return cls(process, asyncio.create_task(_show_all(reader, show)))

    @property
    def how(self) -> str:
        """How it ended, in words; once it has."""
        code = self._process.returncode or 0
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"

    @property
    def lived_s(self) -> float:
        return monotonic() - self._began

    async def ended(self) -> int:
        return await self._process.wait()

    async def end(self, killing: asyncio.Event) -> bool:
        """Drain; when `killing` is set, end at once, and say so by true."""
        self._signal(signal.SIGTERM)
        ended = asyncio.create_task(self.ended())
        killed = asyncio.create_task(killing.wait())
        await asyncio.wait({ended, killed}, return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        if not ended.done():
            self._signal(signal.SIGTERM)  # the second one: it gives back what runs, and ends
            await asyncio.wait({ended}, timeout=KILL_GRACE_S)
            self._signal(signal.SIGKILL)
        await ended
        await asyncio.wait({self._showing}, timeout=KILL_GRACE_S)
        return killing.is_set()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


async def _show_all(reader: asyncio.StreamReader, show: Show) -> None:
    async for entry in entries(reader):
        show(entry)


def folder_of(app: str) -> Path:
    """The folder whose files make up an application: that of its file, or the working folder for a module."""
    name = app.rpartition(":")[0] if ":" in app and not Path(app).exists() else app
    path = Path(name)
    return path.resolve().parent if path.is_file() else Path.cwd()
