"""Keeps what was measured, puts runs together, and prints tables of them."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import BY_NAME, FLOORS, SYSTEMS
from benchmarks.peers.killing import cells

SCHEMA = "perdure.peers/1"
COLUMNS: Mapping[str, str] = {
    "enqueue_one": "one",
    "enqueue_concurrent": "50 callers",
    "enqueue_bulk": "bulk",
    "drain_one_process": "drain, 1",
    "drain_two_processes": "drain, 2",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
    "idle_mb": "idle MiB",
}
ORDER = (*FLOORS, *(system.name for system in SYSTEMS))


@dataclass(slots=True)
class Row:
    """One system: all rounds of each figure, what became of its jobs when it was killed, and what could not be had."""

    version: str = ""
    rounds: dict[str, list[float]] = field(default_factory=dict)
    killed: list[dict[str, Any]] = field(default_factory=list)
    gaps: dict[str, str] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.rounds.setdefault(name, []).append(value)

    def median(self, figure: str) -> float | None:
        values = self.rounds.get(figure)
        return statistics.median(values) if values else None


@dataclass(slots=True)
class Results:
    """What one run has found, or several together: `runs` says on which machines and servers."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        return self.rows.setdefault(name, Row())

    def save(self, path: Path) -> None:
        """Write it so that a reader never sees half of it."""
        rows = {
            name: {"version": row.version, "rounds": row.rounds, "killed": row.killed, "gaps": row.gaps}
            for name, row in self.rows.items()
        }
        new = path.with_name(f"{path.name}.new")
        new.write_text(
            json.dumps({"schema": SCHEMA, "runs": self.runs, "systems": rows}, indent=1) + "\n", "utf-8"
        )
        new.replace(path)


def load(paths: Iterable[Path]) -> Results:
    """The rounds of all files together; a gap stands only where no file has the figure. Raises ValueError."""
    together = Results()
    for path in paths:
        try:
            told = json.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        if not isinstance(told, dict) or told.get("schema") != SCHEMA:
            raise ValueError(f"{path} is no result of this harness: its `schema` is not {SCHEMA}")
        together.runs += told["runs"]
        for name, found in told["systems"].items():
            row = together.row(name)
            row.version = found["version"] or row.version
            row.killed += found["killed"]
            row.gaps |= found["gaps"]
            for figure, values in found["rounds"].items():
                row.rounds.setdefault(figure, []).extend(values)
    return together


def tables(results: Results) -> str:
    """Everything as Markdown: figures, what killed workers left, spreads of what ran more than once, gaps."""
    parts = [_figures(results), _killed(results), _spreads(results), _gaps(results)]
    return "\n\n".join(part for part in parts if part)


def _figures(results: Results) -> str:
    heads = ["system", "version", *COLUMNS.values(), "settings; what is kept"]
    lines = [_line(heads), _line(["---", "---", *["---:"] * len(COLUMNS), "---"])]
    for name in _named(results):
        row = results.rows[name]
        numbers = [_number(row.median(figure)) for figure in COLUMNS]
        lines.append(_line([name, row.version or "-", *numbers, _about(name)]))
    return "\n".join(lines)


def _about(name: str) -> str:
    system = BY_NAME.get(name)
    return f"{system.store}; {system.settings}; keeps: {system.kept}" if system else "bare statements"


def _killed(results: Results) -> str:
    rows = [(name, results.rows[name].killed[-1]) for name in _named(results) if results.rows[name].killed]
    if not rows:
        return ""
    lines = [
        _line(["system", "lost", "ran twice", "last orphan ran again after"]),
        _line(["---", "---", "---:", "---"]),
    ]
    return "\n".join([*lines, *(_line([name, *cells(found)]) for name, found in rows)])


def _spreads(results: Results) -> str:
    lines = []
    for name in _named(results):
        several = {figure: values for figure, values in results.rows[name].rounds.items() if len(values) > 1}
        told = [
            f"{COLUMNS[figure]} {_number(min(values))} to {_number(max(values))} ({len(values)})"
            for figure, values in several.items()
        ]
        lines += [f"- {name}: {', '.join(told)}"] if told else []
    return "\n".join(["Least and most of several rounds:", "", *lines]) if lines else ""


def _gaps(results: Results) -> str:
    lines = []
    for name in _named(results):
        row = results.rows[name]
        missing = {figure: why for figure, why in row.gaps.items() if not _has(row, figure)}
        lines += [f"- {name}, {figure}: {why}" for figure, why in missing.items()]
    return "\n".join(["Gaps:", "", *lines]) if lines else ""


def _has(row: Row, figure: str) -> bool:
    if figure == "kill":
        return bool(row.killed)
    return any(name.startswith(figure) for name in row.rounds)


def _named(results: Results) -> Sequence[str]:
    return [name for name in ORDER if name in results.rows]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
