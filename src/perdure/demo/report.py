"""The report of the pipeline, as Markdown for people and as JSON for programs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from perdure.demo.packages import (
    WORST_KEPT,
    ImportGraph,
    PackageFacts,
    Totals,
    import_graph,
    most_imported,
    totals_of,
    worst_of,
)
from perdure.demo.source import Function

ROWS = 10
TOP = "(top level)"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report says, in the order in which it says it."""

    schema: str = "perdure.demo_report/1"
    folder: str
    totals: Totals
    biggest: list[dict[str, object]]
    most_complex: tuple[Function, ...]
    most_imported: list[tuple[str, int]]
    graph: ImportGraph
    faults: list[str]


def report_of(folder: str, packages: Sequence[PackageFacts]) -> Report:
    """The report over the packages of a folder."""
    biggest = sorted(packages, key=lambda facts: (-facts.lines, facts.package))[:ROWS]
    return Report(
        folder=folder,
        totals=totals_of(packages),
        biggest=[_row(facts) for facts in biggest],
        most_complex=worst_of((f for facts in packages for f in facts.worst), WORST_KEPT),
        most_imported=most_imported(packages, ROWS),
        graph=import_graph(packages),
        faults=[fault for facts in packages for fault in facts.faults],
    )


def write(report: Report, markdown: Path, json: Path) -> None:
    """Write both files, each whole or not at all, so that a second attempt does no harm."""
    for path, content in ((json, _json(report)), (markdown, _markdown(report).encode())):
        unfinished = path.with_name(f"{path.name}.new")
        unfinished.write_bytes(content)
        unfinished.replace(path)


def _row(facts: PackageFacts) -> dict[str, object]:
    return {
        "package": facts.package or TOP,
        "files": facts.files,
        "lines": facts.lines,
        "size": facts.size,
        "functions": facts.functions,
        "digest": facts.digest,
    }


def _json(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def _markdown(report: Report) -> str:
    totals, graph = report.totals, report.graph
    circle = max((len(group) for group in graph.circles), default=0)
    parts = [
        f"# Source report: `{report.folder}`",
        (
            f"{totals.files:,} files in {totals.packages:,} packages: {totals.lines:,} lines, {totals.size:,} bytes, "
            f"{totals.functions:,} functions, {totals.classes:,} classes, "
            f"mean complexity {totals.complexity / max(1, totals.functions):.1f}."
        ),
        "## Biggest packages",
        _table(
            ("package", "files", "lines", "functions", "sha-256"),
            (
                (row["package"], row["files"], row["lines"], row["functions"], str(row["digest"])[:12])
                for row in report.biggest
            ),
        ),
        "## Most complex functions",
        _table(
            ("function", "where", "complexity"),
            ((f.name, f"{f.path}:{f.line}", f.complexity) for f in report.most_complex),
        ),
        "## Most imported modules",
        _table(("module", "files"), report.most_imported),
        "## Import graph of the packages",
        f"{graph.edges:,} edges from a package to one that it imports; {graph.outside:,} modules come from outside. "
        + (
            f"{len(graph.circles):,} circles, the largest of {circle:,} packages." if circle else "No circle."
        ),
        _table(("needed by most", "packages"), ((name or TOP, count) for name, count in graph.most_needed)),
        _table(("needs most", "packages"), ((name or TOP, count) for name, count in graph.neediest)),
    ]
    if report.faults:
        parts += ["## Not Python", "\n".join(f"- {fault}" for fault in report.faults)]
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
