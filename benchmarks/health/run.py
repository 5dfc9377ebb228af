"""Measure the health library on public data and on a simulated network; `make bench-health`.

    python benchmarks/health/run.py [--data FOLDER] [--only nab asd cmapss lanl cost network] [--json]

The exit code is 1 when a figure misses its "at least". Sets that are not in the folder are left out with a message.
Models are fitted here, on training parts alone.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import archives
import cost
import network_figures
import numpy as np
import on_asd
import on_cmapss
import on_lanl
import on_nab
from report import Figure, as_json, table

PARTS: dict[str, tuple[str, Callable[[Path], list[Figure]]]] = {
    "nab": ("nab.tar.xz", on_nab.figures),
    "asd": ("asd-servers-1-6.npz", on_asd.figures),
    "cmapss": ("cmapss-fd001-fd002.tar.xz", on_cmapss.figures),
    "lanl": ("lanl.csv.xz", on_lanl.figures),
    "cost": ("", cost.figures),
    "network": ("", network_figures.figures),
}


def measured(folder: Path, names: list[str]) -> list[Figure]:
    found: list[Figure] = []
    for name in names:
        file, figures = PARTS[name]
        if file and not (folder / file).is_file():
            print(
                f"{name}: left out, there is no {folder / file}; name the folder with --data", file=sys.stderr
            )
            continue
        began = time.perf_counter()
        found += figures(folder)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=archives.FOLDER)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measured(options.data, options.only)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    print(as_json(figures, versions) if options.json else table(figures))
    missed = [one.name for one in figures if not one.reaches(one.least)]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
