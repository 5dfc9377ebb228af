"""`python -m tests.simulation SEED` tells the story of one seed; with `FIRST-LAST` all of these are run and the broken ones named."""

import argparse
import sys

from tests.simulation.installed import failures, installed, simulate
from tests.simulation.world import Result


def told(result: Result) -> str:
    """What a seed broke, and how to see it again."""
    lines = [f"seed {result.seed} breaks something; see it with: python -m tests.simulation {result.seed}"]
    return "\n".join([*lines, *(f"  {problem}" for problem in result.problems)])


def seed_or_range(text: str) -> range | int:
    """What the command line asks for."""
    first, dash, last = text.partition("-")
    return range(int(first), int(last)) if dash else int(first)


def main() -> int:
    """Exit code 1 when something is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", type=seed_or_range, help="a seed, or FIRST-LAST, the last one not included")
    seeds: range | int = parser.parse_args().seeds
    if isinstance(seeds, range):
        broken = 0
        for result in failures(seeds):
            broken += 1
            sys.stdout.write(f"{told(result)}\n")
        sys.stdout.write(f"{len(seeds)} seeds, {broken} broken\n")
        return int(broken > 0)
    with installed():
        result = simulate(seeds, keep_trace=True)
    sys.stdout.write(
        "\n".join([*result.trace, f"{result.virtual_s:.1f} virtual s, trace {result.digest}", ""])
    )
    if result.problems:
        sys.stdout.write(f"{told(result)}\n")
    return int(bool(result.problems))


if __name__ == "__main__":
    sys.exit(main())
