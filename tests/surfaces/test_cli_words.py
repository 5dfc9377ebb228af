"""What commands say to somebody who meets them for the first time: every refusal has a next step that fits."""

import re

import pytest

from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command

NOBODY = "00000000-0000-7000-8000-000000000000"


def enqueue(perdure: Command, *words: str, kind: str = "app.send") -> str:
    ended = perdure("job", "enqueue", kind, *words)
    assert ended.code == 0, ended.err
    return ended.out.strip()


def refused(perdure: Command, *words: str, code: Exit = Exit.USAGE) -> str:
    """What a command says that is refused so; it says what to do next."""
    ended = perdure(*words)
    assert (ended.code, ended.out) == (code, ""), ended.err
    assert "\n  next: " in ended.err, ended.err
    return ended.err


def test_a_dry_run_in_bulk_lists_what_it_would_change(perdure: Command) -> None:
    jobs = [enqueue(perdure) for _ in range(12)]
    for verb, state in (("cancel", "available"), ("retry", "cancelled")):
        dry = perdure("job", verb, "--state", state, "--dry-run")
        assert (dry.code, dict(dry.rows)["matched"]) == (Exit.DONE, "12")
        assert re.findall(rf"  ([0-9a-f-]{{36}})  {state}  default  app\.send", dry.err) == jobs[:1:-1]
        assert "  and 2 more" in dry.err
        assert perdure("job", verb, "--state", state, "--yes").code == Exit.DONE


def test_a_wrong_option_of_a_selection_is_named_and_not_a_column_of_a_filter(perdure: Command) -> None:
    for option, value, word in (
        ("since", "yesterday", "yesterday"),
        ("until", "", "no time"),
        ("state", "", "known are"),
        ("state", "runing", "did you mean running?"),
    ):
        said = refused(perdure, "job", "list", f"--{option}", value)
        assert said.startswith(f"perdure: {option}: "), said
        assert word in said
        assert "column" not in said
    assert "column 1" in refused(perdure, "job", "list", "since:yesterday"), "here a filter was written"
    assert "ask for some" in refused(perdure, "job", "list", "--limit", "0")


def test_a_snapshot_that_is_not_there_is_told_as_anything_else_that_is_not_there(perdure: Command) -> None:
    absent = "20260101T000000Z-00000000"
    for words in (["verify"], ["show"], ["delete", "--yes"], ["create", "--base"]):
        refused(perdure, "snapshot", *words, "nope")
        refused(perdure, "snapshot", *words, "")
        refused(perdure, "snapshot", *words, absent, code=Exit.NOT_FOUND)


def test_what_cannot_be_done_to_a_job_says_what_can(perdure: Command) -> None:
    job = enqueue(perdure)
    assert "is no dead letter" in refused(perdure, "dlq", "replay", job, code=Exit.REFUSED)
    assert perdure("job", "cancel", job).code == Exit.DONE
    assert "perdure job retry" in refused(perdure, "job", "wait", job, code=Exit.FAILED)
    refused(perdure, "job", "cancel", NOBODY, code=Exit.NOT_FOUND)
    refused(perdure, "job", "cancel", NOBODY, "--dry-run", code=Exit.NOT_FOUND)
    refused(perdure, "queue", "pause", "")
    refused(perdure, "job", "enqueue", "")
    assert "'nofile.json' cannot be read: No such file" in refused(
        perdure, "job", "enqueue", "app.send", "--args", "@nofile.json"
    )


def test_settings_and_questions_that_are_refused_say_what_to_write(bare: Command) -> None:
    refused(bare, "status", "--config", "nofile.toml", code=Exit.CONFIG)
    assert "perdure at 1m status" in refused(bare, "at", "1m")
    assert "must not be empty" in refused(bare, "search", ""), "before the database is looked for"


def test_without_qdrant_a_search_names_what_runs_one(perdure: Command) -> None:
    assert "perdure dev --memory" in refused(perdure, "search", "reset", code=Exit.UNREACHABLE)


@pytest.mark.parametrize("columns", ["", "60"])
def test_a_table_that_goes_to_no_terminal_is_as_wide_as_it_needs(perdure: Command, columns: str) -> None:
    enqueue(perdure, "--queue", "a" * 40, kind=f"app.{'b' * 40}")
    shown = perdure.with_variables(COLUMNS=columns)("job", "list", "-o", "table")
    whole = all(word in shown.out for word in ("a" * 40, "b" * 40, "SINCE"))
    assert whole is not bool(columns)
    assert ("no room for" in shown.err) is bool(columns)
