"""The harness's own record of what ran: 30 bytes for each start and, when jobs last, each end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RECORD = 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One start or end of a job, by a process, in microseconds of the clock that all processes of a machine share."""

    start: bool
    job: int
    pid: int
    at_us: int


class RunLog:
    """A file that the jobs of one measurement append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")

    def __len__(self) -> int:
        """How many records there are; costs next to nothing, so that looking disturbs nobody."""
        return self.path.stat().st_size // RECORD

    def running(self) -> int:
        """How many jobs have started and not ended, where the ends are recorded."""
        text = self.path.read_bytes()
        return text.count(b"S") - text.count(b"E")

    def entries(self) -> list[Entry]:
        """All records that are complete."""
        text = self.path.read_text("ascii")
        lines = text[: len(text) // RECORD * RECORD].splitlines()
        return [Entry(line[0] == "S", int(line[1:7]), int(line[8:15]), int(line[16:29])) for line in lines]


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a drain in which all processes were at work."""

    began_us: int
    jobs: int
    processes: int


def window(starts: Sequence[Entry]) -> Window:
    """From the first start of the process that came last, and the jobs not yet started then.

    Processes of one worker do not begin at the same moment; the rate is that of all of them together. One that came when
    most was done says nothing about the others, so the window is then the whole drain.
    """
    first: dict[int, int] = {}
    for entry in starts:
        first[entry.pid] = min(entry.at_us, first.get(entry.pid, entry.at_us))
    began = max(first.values())
    jobs = sum(entry.at_us >= began for entry in starts)
    if jobs < len(starts) / 2:
        began, jobs = min(first.values()), len(starts)
    return Window(began, jobs, len(first))


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What became of the jobs when their worker was killed at one moment."""

    orphans: int
    """Jobs that were running."""
    orphans_ran_again: int
    last_again_s: float | None
    """From the kill to the moment when the last orphan that ran again did so."""
    unfinished: int
    """Jobs that have never ended."""
    doubled: int
    """Jobs that ended more than once."""


def aftermath(entries: Sequence[Entry], *, killed_at_us: int, jobs: int) -> Aftermath:
    """Read from the log what became of `jobs` jobs, numbered from 0."""
    ends = Counter(entry.job for entry in entries if not entry.start)
    ended_before = {entry.job for entry in entries if not entry.start and entry.at_us <= killed_at_us}
    orphans = {entry.job for entry in entries if entry.start and entry.at_us <= killed_at_us} - ended_before
    again: dict[int, int] = {}
    for entry in entries:
        if entry.start and entry.at_us > killed_at_us and entry.job in orphans:
            again[entry.job] = min(entry.at_us, again.get(entry.job, entry.at_us))
    return Aftermath(
        orphans=len(orphans),
        orphans_ran_again=len(again),
        last_again_s=(max(again.values()) - killed_at_us) / 1e6 if again else None,
        unfinished=sum(ends[n] == 0 for n in range(jobs)),
        doubled=sum(ends[n] > 1 for n in range(jobs)),
    )
