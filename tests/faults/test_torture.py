"""The torture of `perdure torture`: it holds, it can be asked for by name, and it would notice what does not hold."""

import json
from pathlib import Path

import pytest

from perdure.torture.run import chosen
from perdure.torture.scenario import SCENARIOS
from tests.support.command import Command

PATIENCE_S = 840.0


@pytest.fixture
def here(tmp_path: Path) -> Command:
    return Command(tmp_path, {})


@pytest.mark.timeout(PATIENCE_S + 30)
def test_every_promise_holds_in_the_short_torture(here: Command) -> None:
    """Each scenario on servers of its own, three at once, since a scenario mostly waits."""
    process = here.process("torture", "--short", "--at-once", "3", "--json")
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    told = json.loads(out)
    assert told["ok"]
    assert [one["name"] for one in told["scenarios"]] == [
        entry.scenario.name for entry in chosen(None, short=True)
    ]
    played = [one for one in told["scenarios"] if not one["skipped"]]
    assert len(played) >= len(told["scenarios"]) - 2, "only root can fill a disk and limit memory"
    assert all(one["attempts"] > 0 for one in played if one["jobs"])


def test_wrong_wishes_are_refused_by_name(here: Command) -> None:
    ended = here("torture", "--only", "postgres-crash,flood")
    assert ended.code == 2
    assert "'flood'" in ended.err
    assert "postgres-crash" in ended.err, "the scenarios that there are"
    assert here("torture", "--minutes", "0").code == 2
    assert here("torture", "--at-once", "0").code == 2
    assert here("torture", "--recorded", "nowhere.json").code == 2


def test_a_run_that_was_kept_is_written_into_the_page_and_ends_as_it_did(
    here: Command, tmp_path: Path
) -> None:
    outcome = {
        "name": "postgres-crash",
        "ok": False,
        "broken": ["S1 is broken"],
        "recovered_s": 2.5,
        "jobs": 7,
    }
    run = {
        "seed": 3,
        "took_s": 61.0,
        "machine": {"processor": "x", "cores": 2, "load_before": 0.5},
        "servers": {"postgresql": "18.6"},
        "scenarios": [outcome],
        "mixed": None,
    }
    kept, page = tmp_path / "run.json", tmp_path / "faults.md"
    kept.write_text(json.dumps({"schema": "perdure.torture/1", "ok": False, **run}))
    page.write_text(
        "before\n<!-- scenarios: written by `perdure torture`, not by hand -->\nfigures of yesterday\n<!-- end: scenarios -->\nafter\n"
    )
    assert here("torture", "--recorded", str(kept), "--report", str(page)).code == 1
    text = page.read_text()
    assert "Seed 3; postgresql 18.6; x, 2 cores, load 0.5" in text
    row = next(line for line in text.splitlines() if "--only postgres-crash`" in line)
    assert "**BROKEN**" in row
    assert "2.5 s (bound 30 s)" in row
    assert "figures of yesterday" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_floods_are_played_only_when_they_are_asked_for() -> None:
    floods = {entry.scenario.name for entry in chosen(None, flood=True)}
    assert {"million-and-trickle", "millions-delayed"} <= floods
    for short in (True, False):
        assert not floods & {entry.scenario.name for entry in chosen(None, short=short)}
    assert [entry.scenario.name for entry in chosen("blocked-ahead")] == ["blocked-ahead"]


def test_every_scenario_says_what_it_does() -> None:
    for name, entry in SCENARIOS.items():
        scenario = entry.scenario
        assert scenario.name == name
        assert scenario.produced
        assert scenario.holds
        assert scenario.numbers
        assert 0 < scenario.within_s <= 300
