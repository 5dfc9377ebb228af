"""What the demonstration shows: bars on a terminal, plain lines elsewhere, and tables at the end."""

import sys
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from perdure.demo.ending import Chapter
from perdure.services.check import CheckReport
from perdure.stores.postgres.figures import KindFigures, KindProgress

KINDS = {
    "scan": "find the files",
    "analyse": "analyse the files",
    "digest": "digest the packages",
    "summarise": "sum the packages up",
    "write_report": "write the report",
    "index": "index the words",
}
LINE_EVERY_S = 1.0
WIDTH = 110
HEADINGS = (
    "KIND",
    "JOBS",
    "ATTEMPTS",
    "RETRIES",
    "RESCUED",
    "DEAD",
    "REPLAYED",
    "JOBS/S",
    "WAIT P50",
    "P95",
    "RUN P50",
    "P95",
)
"""A dead letter is an attempt after which a job was given up; waits are from available to begun."""


class Screen:
    """Tells the story on stdout while it happens, and its figures afterwards."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        self._console = Console(
            file=sys.stdout, width=None if terminal else WIDTH, highlight=False, markup=False, emoji=False
        )
        self._progress = (
            _Bars(self._console) if terminal and not self._console.is_dumb_terminal else _Lines(self.say)
        )
        self._began = monotonic()

    def say(self, text: str) -> None:
        """One thing that happens now."""
        self._console.print(
            Text.assemble((f"{monotonic() - self._began:6.1f} s  ", "dim"), text), soft_wrap=True
        )

    def progress(self, kinds: Mapping[str, KindProgress]) -> None:
        """How far the jobs of the pipeline have come."""
        if kinds:
            self._progress.show(kinds)

    def stop(self) -> None:
        """Show no progress any more."""
        self._progress.stop()

    def ledger(self, rows: Iterable[KindFigures]) -> None:
        """The figures of each kind, and of all together in the last row."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for place, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="right" if place else "left", no_wrap=True)
        for row in rows:
            counts = (row.jobs, row.attempts, row.retries, row.rescued, row.dead_letters, row.replayed)
            table.add_row(
                row.kind or "total",
                *(f"{count:,}" for count in counts),
                f"{row.per_s:,.1f}",
                *(_duration(seconds) for seconds in (*row.waits_s, *row.runs_s)),
                style=None if row.kind else "bold",
            )
        self._console.print()
        self._console.print(table, width=max(self._console.width, WIDTH), crop=False)

    def chapters(self, told: Iterable[Chapter]) -> None:
        """Whether each part of the story went as it should."""
        self._judged((chapter.ok, chapter.title, chapter.told) for chapter in told)

    def promises(self, report: CheckReport) -> None:
        """Whether the history keeps each promise, and how much of it was looked at."""
        self._judged(
            (verdict.ok, verdict.promise, f"{verdict.meaning} ({verdict.looked:,} looked at)")
            for verdict in report.verdicts
        )
        if not report.ok:
            self._console.print(report.words(), soft_wrap=True)

    def _judged(self, rows: Iterable[tuple[bool, str, str]]) -> None:
        self._console.print()
        for ok, title, told in rows:
            mark = ("ok    ", "green") if ok else ("BROKEN", "bold red")
            self._console.print(
                Text.assemble(mark, "  ", (f"{title:<16}", "bold"), "  ", told), soft_wrap=True
            )


class _Bars:
    """A bar for each kind, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="yellow"),
            console=console,
        )
        self._tasks = {
            kind: self._bars.add_task(title, total=None, visible=False, start=False, note="")
            for kind, title in KINDS.items()
        }

    def show(self, kinds: Mapping[str, KindProgress]) -> None:
        self._bars.start()
        for kind, task in self._tasks.items():
            row = kinds.get(kind)
            if row is not None:
                self._bars.start_task(task)
                note = f"{row.failures:,} attempts failed" if row.failures else ""
                self._bars.update(task, total=row.jobs, completed=row.completed, visible=True, note=note)

    def stop(self) -> None:
        self._bars.stop()


class _Lines:
    """A line a second at most, and only when something has changed."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = ""
        self._said = 0.0

    def show(self, kinds: Mapping[str, KindProgress]) -> None:
        parts = [f"{kind} {kinds[kind].completed:,}/{kinds[kind].jobs:,}" for kind in KINDS if kind in kinds]
        failures = sum(row.failures for row in kinds.values())
        line = ", ".join([*parts, *([f"{failures:,} attempts failed"] if failures else [])])
        if line != self._last and monotonic() - self._said >= LINE_EVERY_S:
            self._last, self._said = line, monotonic()
            self._say(line)

    def stop(self) -> None:
        return None


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
