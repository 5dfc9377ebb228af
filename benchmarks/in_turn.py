"""`perdure bench` of two states of the source in turn, for a shared machine changes its pace by the hour.

    git worktree add ../before COMMIT
    python -m benchmarks.in_turn ../before --only drain_one_process latency_p50_ms [--rounds 6]

Prints each figure of each round, then the medians of both and of the ratios of after to before, round by round. Each round starts with the
other of the two. Servers are embedded ones in a folder of their own, new for each measurement.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

FORM = ",.2f"
HERE = Path(__file__).resolve().parent.parent
BENCH = (sys.executable, "-m", "perdure", "bench", "--repeat", "1", "--json", "--only")


def measure(tree: Path, figure: str) -> dict[str, float]:
    """Values by name: a measurement may give more figures than the one that was asked for."""
    with tempfile.TemporaryDirectory(prefix="perdure-in-turn-") as folder:
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
        done = subprocess.run(
            [*BENCH, figure], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(
            f"the measurement of {figure} in {tree} ended with {done.returncode}:\n{done.stderr}"
        )
    figures = json.loads(done.stdout)["figures"]
    return {name: found["value"] for name, found in figures.items() if found["value"] is not None}


def compare(before: Path, figures: Sequence[str], rounds: int) -> None:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number in range(rounds):
        for figure in figures:
            order = (before, HERE) if number % 2 else (HERE, before)
            values = {tree: measure(tree, figure) for tree in order}
            for name in values[HERE].keys() & values[before].keys():
                found[name].append((values[before][name], values[HERE][name]))
                print(
                    f"round {number + 1}: {name}: {values[before][name]:{FORM}} before, {values[HERE][name]:{FORM}} after",
                    flush=True,
                )
    for name, pairs in sorted(found.items()):
        old, new = (median(side) for side in zip(*pairs, strict=True))
        ratio = median(after / before for before, after in pairs)
        print(
            f"{name}: {old:{FORM}} before, {new:{FORM}} after; after / before {ratio:.3f}, medians of {len(pairs)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a folder with the source of before")
    parser.add_argument("--only", nargs="+", required=True, metavar="FIGURE")
    parser.add_argument("--rounds", type=int, default=6)
    chosen = parser.parse_args()
    compare(chosen.before.resolve(), chosen.only, chosen.rounds)


if __name__ == "__main__":
    main()
