"""Whatever is killed, frozen, cut off or forgotten, in whatever order, every promise holds: for thousands of seeds."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation import faults
from tests.simulation.bugs import BUGS
from tests.simulation.installed import failures, installed, simulate
from tests.simulation.planting import Bug, planted

ROOT = Path(__file__).parents[2]
SEEDS = 2_000
PARTS = 2
DIGESTS = """
from tests.simulation.installed import installed, simulate
with installed():
    print(*(simulate(seed).digest for seed in range({first}, {last})))
"""


def python(*arguments: str, hash_seed: str = "random") -> subprocess.CompletedProcess[str]:
    # Without the counting of lines, which would make a seed three times as slow and finds nothing new.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONHASHSEED"] = hash_seed
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(1800)
def test_every_promise_holds_for_thousands_of_seeds() -> None:
    step = SEEDS // PARTS
    ranges = [f"{first}-{first + step}" for first in range(0, SEEDS, step)]
    with ThreadPoolExecutor(PARTS) as pool:
        ended = list(pool.map(lambda seeds: python("-m", "tests.simulation", seeds), ranges))
    for one in ended:
        assert one.returncode == 0, one.stdout + one.stderr
        assert f"{step} seeds, 0 broken" in one.stdout


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    with planted(bug):
        result = next(failures(range(SEEDS)), None)
    assert result is not None, "2,000 seeds did not find it"
    again = python("-m", "tests.simulation", str(result.seed))
    assert again.returncode == 0, "the seed breaks something without the bug too"


@pytest.mark.timeout(600)
def test_a_seed_replays_exactly() -> None:
    """Whatever ran before it, and however the interpreter hashes."""
    first, last = 30, 40
    told = [
        python("-c", DIGESTS.format(first=first, last=last), hash_seed=seed).stdout for seed in ("0", "1")
    ]
    with installed():
        here = [simulate(seed).digest for seed in reversed(range(first, last))]
    assert told[0].split() == told[1].split() == list(reversed(here))
    assert len(set(here)) == last - first


def test_the_story_of_a_seed_can_be_read() -> None:
    words = ("supervisor starts on h0", "enqueued", "claimed job", "settled job", "-> completed", "FAULT")
    with installed():
        told = ("\n".join(simulate(seed, keep_trace=True).trace) for seed in range(SEEDS))
        seed, story = next((n, one) for n, one in enumerate(told) if all(word in one for word in words))
    printed = python("-m", "tests.simulation", str(seed))
    assert printed.returncode == 0
    assert printed.stdout.startswith(story)


@pytest.mark.timeout(600)
def test_the_seeds_do_what_they_are_for() -> None:
    """Every fault happens, and what they are to provoke is provoked: a simulation of fair weather would prove nothing."""
    told = ""
    with installed():
        for seed in range(250):
            told += "\n".join(simulate(seed, keep_trace=True).trace)
    for kind in faults.KINDS:
        assert f"FAULT {kind} for" in told, kind
    for effect in (
        "declared dead worker", "late job", "late results were refused", "claims lost 1", "crashes, claims lost: ",
        "released before it started: the answer to its claim was lost", "while running alone, the limit", "DuplicateJob",
        "starting anew", "snoozed -> scheduled", "timed_out -> ", "Redis is back", "interrupted -> ", "cancel", "jobs taken from an ended process",
    ):  # fmt: skip
        assert effect in told, effect
