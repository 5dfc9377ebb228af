"""Measures Perdure and its peers in turn on the same servers and prints one table.

    python -m benchmarks.peers [--only NAME,…] [--figures NAME,…] [--repeats 3] [--json FILE] [--quick]
    python -m benchmarks.peers --merge FILE…

It builds the environments of the systems in `.venv-peers/` and starts its own PostgreSQL and Redis. README.md says how it
measures. With `--merge` it measures nothing and prints the table of the results in these files.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.peers import floors
from benchmarks.peers.catalogue import BY_NAME, FLOORS
from benchmarks.peers.environments import build
from benchmarks.peers.killing import kill
from benchmarks.peers.measurements import MEASUREMENTS, QUICK, THOROUGH, Effort
from benchmarks.peers.programs import Gap, Program
from benchmarks.peers.results import ORDER, Results, load, tables
from benchmarks.peers.servers import Servers, started_servers

KILL = "kill"
FIGURES = (*MEASUREMENTS, KILL)
ONCE = frozenset({"idle", KILL})
"""Measured once in a run, however often the rates are: they take long or hardly vary."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(
    names: Sequence[str], figures: Sequence[str], repeats: int, effort: Effort, servers: Servers
) -> Iterator[Results]:
    """Measure these systems and give the results so far after each figure.

    A system that cannot be installed and a figure that cannot be had are gaps.
    """
    with tempfile.TemporaryDirectory(prefix="perdure-peers-") as folder:
        yield from _rounds(names, figures, repeats, effort, _Place(servers, Path(folder)))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a run takes place: its servers, and a folder for the logs of drivers, workers and jobs."""

    servers: Servers
    folder: Path


def _rounds(
    names: Sequence[str], figures: Sequence[str], repeats: int, effort: Effort, place: _Place
) -> Iterator[Results]:
    results = Results(runs=[_machine(place.servers, names, repeats)])
    programs = {name: _program(name, place, results) for name in names if name not in FLOORS}
    for number in range(repeats):
        for name in names:
            for figure in figures:
                if number > 0 and figure in ONCE:
                    continue
                _measure(name, figure, programs.get(name), effort, place.servers, results)
                yield results


def _program(name: str, place: _Place, results: Results) -> Program | None:
    system = BY_NAME[name]
    say(f"{name}: its environment")
    try:
        environment = build(system.environment)
    except Gap as gap:
        results.row(name).gaps["all"] = str(gap)
        return None
    results.row(name).version = environment.versions[system.package]
    folder = place.folder / name
    folder.mkdir()
    return Program(
        system=system,
        interpreter=environment.interpreter,
        servers=place.servers,
        folder=folder,
        variables=environment.variables,
    )


def _measure(
    name: str, figure: str, program: Program | None, effort: Effort, servers: Servers, results: Results
) -> None:
    row = results.row(name)
    try:
        if name in FLOORS:
            found = floors.measure(name, figure, servers, effort)
        elif program is None or figure in row.gaps:
            return
        elif figure == KILL:
            row.killed.append(kill(program, effort))
            say(f"{name}: {figure} {row.killed[-1]}")
            return
        else:
            found = MEASUREMENTS[figure](program, effort)
    except Gap as gap:
        row.gaps[figure] = str(gap)
        say(f"{name}: {figure} not had: {gap}")
        return
    row.add(found)
    for each, value in found.items():
        say(f"{name}: {each} {value:,.1f}")


def _machine(servers: Servers, names: Sequence[str], repeats: int) -> dict[str, object]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(psutil.getloadavg()[0], 2),
        "servers": dict(servers.versions),
        "measured": list(names),
        "repeats": repeats,
    }


def _chosen(text: str | None, known: Sequence[str], what: str) -> list[str]:
    if text is None:
        return list(known)
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        wrong = f"there is no {what} {unknown[0]!r}" if unknown else f"no {what} is named"
        raise SystemExit(f"{wrong}; there are: {', '.join(known)}")
    return names


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME,…", help="systems and floors; by default all")
    parser.add_argument("--figures", metavar="NAME,…", help=f"some of: {', '.join(FIGURES)}")
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds; each figure is their median (default: 3)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all rounds here")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FILE", help="only print what these files hold"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few jobs: shows that it works; its figures mean nothing"
    )
    parser.add_argument(
        "--kill-wait", type=float, metavar="S", help="longest wait for the jobs of a killed worker"
    )
    options = parser.parse_args(words)
    if options.repeats < 1:
        parser.error("--repeats: at least 1")
    return options


def main(words: Sequence[str] | None = None) -> int:
    options = _arguments(words)
    if options.merge:
        try:
            print(tables(load(options.merge)))
        except ValueError as error:
            raise SystemExit(str(error)) from None
        return 0
    names = _chosen(options.only, ORDER, "system")
    figures = _chosen(options.figures, FIGURES, "figure")
    effort = QUICK if options.quick else THOROUGH
    if options.kill_wait is not None:
        effort = replace(effort, killed_wait_s=options.kill_wait)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers and servers are ended, too
    results = Results()
    with started_servers() as servers:
        for results in run(names, figures, options.repeats, effort, servers):
            if options.json:
                results.save(options.json)  # so that a run that is ended early leaves what it has found
    print(tables(results))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
