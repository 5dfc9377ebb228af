"""What commands print: the formats, the documents, and text that cannot harm a terminal."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from perdure.domain.job import JobState
from perdure.domain.views import CountView, LeaderView, StatusView
from perdure.surfaces.cli.options import AS_USUAL
from perdure.surfaces.cli.records import as_json
from perdure.surfaces.cli.status import _screen, judge
from perdure.surfaces.cli.tables import in_brief, print_fields
from perdure.surfaces.cli.text import ago, plain, visible
from tests.support.command import Command

EVIL = "\x1b[2J\x1b]0;owned\x07 a\tb\nc \u202e"


ERROR = {"type": "ValueError", "message": "no luck", "traceback": "Traceback:\n  x\x1b\n", "fingerprint": "f"}


def enqueue(perdure: Command, *words: str, kind: str = "app.send") -> str:
    ended = perdure("job", "enqueue", kind, *words)
    assert ended.code == 0, ended.err
    return ended.out.strip()


@pytest.mark.parametrize(
    ("words", "schema", "item"),
    [
        (["job", "list"], "perdure.jobs/1", "perdure.job_summary/1"),
        (["queue", "list"], "perdure.queues/1", "perdure.queue/1"),
        (["worker", "list", "--all"], "perdure.workers/1", "perdure.worker/1"),
        (["dlq", "list"], "perdure.dead_letters/1", "perdure.dead_letter/1"),
        (["dlq", "groups"], "perdure.dead_letter_groups/1", "perdure.dead_letter_group/1"),
        (["db", "status"], "perdure.migrations/1", "perdure.migration/1"),
        (["db", "check"], "perdure.promises/1", "perdure.promise/1"),
        (["config", "show"], "perdure.settings/1", "perdure.setting/1"),
        (["doctor"], "perdure.diagnosis/1", "perdure.finding/1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_lists_name_their_schema(perdure: Command, words: list[str], schema: str, item: str) -> None:
    enqueue(perdure)
    document = perdure(*words, "--json").json
    assert document["schema"] == schema
    assert "next_cursor" in document
    lines = [json.loads(line) for line in perdure(*words, "-o", "ndjson").out.splitlines()]
    assert [{"schema": item, **each}.keys() for each in document["items"]] == [line.keys() for line in lines]
    assert {line["schema"] for line in lines} <= {item}


def test_a_job_as_a_document(perdure: Command) -> None:
    job = enqueue(perdure, "--args", '{"amount": 1.10, "big": 12345678901234567890}', "--queue", "mail")
    shown = perdure("job", "show", job, "--json")
    assert (shown.json["schema"], shown.json["id"], shown.json["state"]) == (
        "perdure.job/1",
        job,
        "available",
    )
    assert '"amount":1.10' in shown.out
    assert "12345678901234567890" in shown.out
    for name in ("kind", "queue", "priority", "attempts", "parents", "children", "events", "lease", "result"):
        assert name in shown.json
    explained = perdure("job", "explain", job, "--json").json
    assert (explained["schema"], explained["job_id"]) == ("perdure.explanation/1", job)
    assert explained["reasons"][0]["sentence"]
    assert perdure("status", "--json").json["schema"] == "perdure.status/1"
    assert perdure("queue", "show", "mail", "--json").json["schema"] == "perdure.queue/1"


def test_a_pipe_gets_rows_separated_by_tabs_without_decoration(perdure: Command) -> None:
    job = enqueue(perdure)
    (row,) = perdure("job", "list").rows
    assert row[:4] == [job, "available", "app.send", "default"]
    assert perdure("job", "show", job).rows[0] == ["id", job]


def test_ids_and_csv_and_table(perdure: Command) -> None:
    jobs = [enqueue(perdure, "--args", json.dumps({"text": 'a "b", c'})) for _ in range(3)]
    assert perdure("job", "list", "-o", "ids").out.splitlines() == jobs[::-1]
    heading, *rows = csv.reader(io.StringIO(perdure("job", "list", "-o", "csv", "--fields", "id,args").out))
    assert heading == ["id", "args"]
    assert json.loads(rows[0][1]) == {"text": 'a "b", c'}
    table = perdure("job", "list", "-o", "table").out
    assert "STATE" in table
    assert jobs[0] in table
    assert "\x1b" not in table
    assert "nothing found" in perdure("job", "list", "-o", "table", "--kind", "other").err


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_a_narrow_terminal_loses_columns_and_is_told_and_no_part_of_an_id(
    perdure: Command, columns: int
) -> None:
    job = enqueue(perdure, "--queue", "a-queue-with-a-long-name")
    narrow = perdure.with_variables(COLUMNS=str(columns))
    ended = narrow("job", "list", "-o", "table")
    assert "no room for" in ended.err
    assert job in ended.out
    assert "available" in ended.out or columns < 80
    assert max(map(len, ended.out.splitlines())) <= columns


def test_chosen_fields_reach_into_the_arguments(perdure: Command) -> None:
    job = enqueue(perdure, "--args", '{"user": {"id": 42}}')
    assert perdure("job", "list", "--fields", "id,args.user.id").rows == [[job, "42"]]
    document = perdure("job", "list", "--fields", "id,args.user.id", "--json").json
    assert document["items"] == [{"id": job, "args.user.id": 42}]
    assert "there is no field" in perdure("job", "list", "--fields", "nope").err


def test_pages_go_on_at_the_cursor(perdure: Command) -> None:
    jobs = [enqueue(perdure) for _ in range(3)]
    first = perdure("job", "list", "--limit", "2", "--json").json
    second = perdure("job", "list", "--limit", "2", "--cursor", first["next_cursor"], "--json").json
    assert [item["id"] for item in first["items"] + second["items"]] == jobs[::-1]
    assert second["next_cursor"] is None
    assert "--cursor" in perdure("job", "list", "--limit", "2").err


def test_text_of_jobs_cannot_move_the_cursor(perdure: Command) -> None:
    enqueue(perdure, "--args", json.dumps({"text": EVIL}), kind="app.evil")
    enqueue(perdure, "--concurrency-key", "k", kind="x\u202ey")
    for form in ("auto", "table"):
        out = perdure("job", "list", "-o", form, "--fields", "kind,args.text").out
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "\u202e" not in out
    assert perdure("job", "list", "--json", "--kind", "app.evil").json["items"][0]["args"]["text"] == EVIL


def test_a_terminal_without_unicode_gets_ascii(perdure: Command) -> None:
    job = enqueue(perdure, "--args", '{"name": "Jürgen 🚀"}')
    table = perdure("job", "show", job, "-o", "table", encoding="ascii")
    assert table.code == 0
    assert table.out.isascii()
    assert perdure("queue", "list", "-o", "table", encoding="ascii").out.isascii()
    document = perdure("job", "show", job, "--json", encoding="ascii")
    assert document.out.isascii()
    assert document.json["args"]["name"] == "Jürgen 🚀"


def test_colours_are_forced_and_refused(perdure: Command) -> None:
    enqueue(perdure)
    forced = Command(perdure.folder, {**perdure.variables, "FORCE_COLOR": "1"})
    refused = Command(perdure.folder, {**perdure.variables, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b[33m" in forced("doctor", "-o", "table").out
    assert "\x1b[33m" not in refused("doctor", "-o", "table").out
    assert "\x1b[33m" not in forced("doctor", "-o", "table", "--no-color").out
    assert "\x1b" not in forced("job", "list").out


def test_values_as_one_line() -> None:
    assert plain(None) == ""
    assert plain(True) == "yes"
    assert plain(("a", "b")) == "a,b"
    assert plain([{"a": 1}]) == '[{"a": 1}]'
    assert plain(0.1 + 0.2) == "0.3"
    assert visible(EVIL).isprintable()
    assert as_json({"a": "é"}, pretty=False, ascii_only=True) == '{"a":"\\u00e9"}'


def test_ages_in_their_largest_unit() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    ages = {timedelta(seconds=0): "0s ago", timedelta(seconds=90): "1m ago", timedelta(days=3): "3d ago"}
    assert {age: ago(now - age, now) for age in ages} == ages
    assert ago(now + timedelta(hours=2), now) == "in 2h"


CALM = StatusView(
    at=datetime(2030, 1, 1, tzinfo=UTC),
    counts=(CountView(state=JobState.AVAILABLE, count=0),),
    last_minute=(),
    oldest_available_s=None,
    workers_active=0,
    workers_draining=0,
    workers_suspect=0,
    leader=None,
    dead_letters=0,
    dead_letters_approximate=False,
    queues_paused=(),
    oldest_transaction_s=None,
)


def test_the_state_of_the_system_has_its_reasons() -> None:
    assert judge(CALM) == ("ok", [])
    waiting = replace(CALM, counts=(CountView(state=JobState.AVAILABLE, count=3),))
    assert judge(waiting)[0] == "critical"
    for change in (
        {"workers_active": 1},
        {"workers_suspect": 2},
        {"oldest_available_s": 301.0},
        {"oldest_transaction_s": 901.0},
        {"notes": ("counts",)},
    ):
        state, reasons = judge(replace(CALM, **change))
        assert (state, len(reasons)) == ("degraded", 1)


def test_who_no_longer_leads_is_told_as_the_last_that_did() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    leader = LeaderView(holder=UUID(int=1), worker="one", term=3, elected_at=now, expires_at=now, leads=True)
    view = replace(CALM, leader=leader)
    gone = replace(view, leader=replace(leader, leads=False))
    told = [_screen(each, "ok", [])["leader"] for each in (view, gone, CALM)]
    assert told == ["one", "none, the last was one", "none"]


def test_jobs_that_could_not_be_counted_are_unknown_and_have_their_lines() -> None:
    view = replace(CALM, counts=None, last_minute=None, dead_letters=None, notes=("counts",))
    screen = _screen(view, "degraded", [])
    assert {name: screen[name] for name in screen if name.startswith("jobs ")} == {
        f"jobs {state}": "?" for state in JobState
    }


def test_people_read_an_error_in_brief_and_its_traceback_once(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"error": ERROR, "dead_letter": {"error": ERROR}, "attempts": [{"error": ERROR}]}, AS_USUAL)
    told = capsys.readouterr().out
    assert told.count("ValueError: no luck") == 3
    assert told.endswith("\ntraceback\nTraceback:\n  x\\x1b\n")
    assert in_brief({"type": "a user's own"}) == {"type": "a user's own"}


def test_why_each_attempt_ended_is_told_on_a_narrow_screen_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    began = datetime(2026, 1, 1, tzinfo=UTC)
    common = {
        "run": 1,
        "state": "retryable",
        "settled_at": began,
        "worker": "w" * 30,
        "process": 1,
        "token": "t" * 36,
    }
    attempts = [
        {**common, "attempt": 1, "outcome": "crashed", "cause": "process 1 was killed by SIGKILL", "error": None},
        {**common, "attempt": 2, "outcome": "failed", "cause": "", "error": ERROR},
        {
            **common, "attempt": 3, "outcome": "completed", "result": msgspec.Raw(b'{"n": 1}'),
            "started_at": began, "finished_at": began + timedelta(milliseconds=12.3),
        },
    ]  # fmt: skip
    print_fields({"attempts": attempts}, AS_USUAL)
    told = capsys.readouterr().out
    for word in ("SIGKILL", "ValueError: no luck", '{"n": 1}', "12ms"):
        assert word in told.replace("\n", " ")
