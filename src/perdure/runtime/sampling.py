"""Takes samples of a worker for its supervisor: what its processes say, and what the system says of them."""

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import psutil

from perdure.domain.sample import Sample
from perdure.domain.worker import WorkerId
from perdure.runtime.children import ChildProcess
from perdure.stores.postgres.samples import PostgresSamples

KEPT = 360
"""Samples that wait while the database is away: an hour of them at the default of ten seconds."""

MEGABYTE = 2**20
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
COUNTS = ("finished", "failed", "timed_out", "retried", "claims", "claim_ms")


class Sampling:
    """One sample a round; those that could not be written go with the next, up to an hour of them."""

    def __init__(self, samples: PostgresSamples, *, recycled_at_mb: float = 0) -> None:
        self._samples = samples
        self._recycled_at_mb = recycled_at_mb
        self._waiting: deque[tuple[float, Sample]] = deque(maxlen=KEPT)
        self._seen: dict[tuple[int, str], float] = {}
        self._processes: dict[int, psutil.Process] = {}
        self._late_ms = 0.0
        self._database_ms = 0.0
        self._crashed = 0

    def beat(self, *, late_s: float, took_s: float) -> None:
        """A heartbeat came so much late, and the database took so long for it; the longest since the last sample counts."""
        self._late_ms = max(self._late_ms, 1000 * late_s)
        self._database_ms = max(self._database_ms, 1000 * took_s)

    def ended(self, child: ChildProcess) -> None:
        """A process of this worker has ended; what it had counted since the last sample is kept only in the history of its jobs."""
        self._crashed += not (child.said_goodbye or child.lost)
        for figure in COUNTS:
            self._seen.pop((child.number, figure), None)

    async def run_once(self, worker_id: WorkerId, children: Iterable[ChildProcess]) -> None:
        """Take a sample and write what waits. Raises DatabaseUnavailable; nothing is lost by it."""
        self._waiting.append((monotonic(), self._taken(worker_id, list(children))))
        batch = list(self._waiting)
        now = monotonic()
        await self._samples.write(
            [sample for _, sample in batch], ages_ms=[int(1000 * (now - at)) for at, _ in batch]
        )
        self._waiting.clear()

    def _taken(self, worker_id: WorkerId, children: list[ChildProcess]) -> Sample:
        facts = [self._facts(child.pid) for child in children if child.pid is not None]
        self._processes = {pid: one for pid, one in self._processes.items() if psutil.pid_exists(pid)}
        late_ms, self._late_ms = self._late_ms, 0.0
        database_ms, self._database_ms = self._database_ms, 0.0
        crashed, self._crashed = self._crashed, 0
        known = [child.figures for child in children if child.figures]
        resident = [one[1] for one in facts]
        return Sample(
            worker_id=worker_id,
            at=datetime.now(UTC),
            running=int(sum(one.get("running", 0) for one in known)),
            **{figure: self._risen(children, figure) for figure in COUNTS},
            crashed=crashed,
            cpu_percent=sum(one[0] for one in facts) if facts else None,
            resident_mb=sum(resident) if facts else None,
            memory_percent=self._share(resident) if facts else None,
            open_files=sum(one[2] for one in facts) if facts else None,
            loop_lag_ms=self._lag(children),
            beat_late_ms=late_ms,
            database_ms=database_ms,
            slowness=max((one.get("slowness", 1.0) for one in known), default=None),
            queue_wait_ms=max((one.get("queue_wait_ms", 0.0) for one in known), default=None),
        )

    def _lag(self, children: list[ChildProcess]) -> float | None:
        """The longest lag of a loop; a process that is silent now cannot tell of its own, so its silence counts."""
        lags = [max(one.figures.get("loop_lag_ms", 0.0), silent_ms(one)) for one in children if one.figures]
        return max(lags, default=None)

    def _share(self, resident: list[float]) -> float:
        """Memory in percent of what there may be: of the machine or its container, and of what one process may have."""
        shares = [sum(resident) / memory_limit_mb()]
        if self._recycled_at_mb:
            shares += [one / self._recycled_at_mb for one in resident]
        return 100 * max(shares)

    def _risen(self, children: list[ChildProcess], figure: str) -> int:
        """By how much a count of the processes has risen since the last sample; a new process starts at 0."""
        risen = 0
        for child in children:
            now = float(child.figures.get(figure, 0))
            more = max(now - self._seen.get((child.number, figure), 0.0), 0.0)
            risen += int(more)
            self._seen[child.number, figure] = now - more % 1  # what is left over counts the next time
        return risen

    def _facts(self, pid: int) -> tuple[float, float, int]:
        """Share of a core since the last look in percent, resident megabytes, open files; zeros for one that has gone."""
        try:
            process = self._processes.setdefault(pid, psutil.Process(pid))
            with process.oneshot():
                files = process.num_fds() if hasattr(process, "num_fds") else 0
                return process.cpu_percent(None), process.memory_info().rss / MEGABYTE, files
        except psutil.Error:
            self._processes.pop(pid, None)
            return 0.0, 0.0, 0


def silent_ms(child: ChildProcess) -> float:
    """For how long a process has not said what it says every second; looks are about a second apart."""
    return 1000.0 * max(child.silent_looks - 2, 0)


def memory_limit_mb() -> float:
    """How much memory the processes here may have together, in megabytes: the container's limit, or the machine's memory."""
    limits = [float(psutil.virtual_memory().total)]
    for path in LIMITS:
        try:
            limits.append(float(path.read_text()))
        except (OSError, ValueError):  # not there, or `max`
            continue
    return min(limits) / MEGABYTE
