"""How commands end: the exit codes as a table, what is said of errors, and what never shows."""

import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from perdure.domain import errors
from perdure.domain.errors import PerdureError
from perdure.runtime.embedded import errors as embedded_errors
from perdure.surfaces.cli.exits import CODES, MEANINGS, Exit, code_of
from tests.support.command import Command

NOBODY = "00000000-0000-7000-8000-000000000000"
UNREACHABLE = "postgresql://user:Zz9secret@127.0.0.1:1/name"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], Exit.DONE),
        (["--help"], Exit.DONE),
        (["job", "list"], Exit.DONE),
        (["db", "status"], Exit.DONE),
        (["db", "check"], Exit.DONE),
        (["db", "sql"], Exit.DONE),
        (["config", "show"], Exit.DONE),
        (["status"], Exit.DONE),
        (["wurst"], Exit.USAGE),
        (["job", "wurst"], Exit.USAGE),
        (["job", "list", "--wurst"], Exit.USAGE),
        (["job", "list", "-o", "xml"], Exit.USAGE),
        (["job", "list", "--limit", "x"], Exit.USAGE),
        (["job", "list", "--limit", "0"], Exit.USAGE),
        (["job", "list", "--state", "bogus"], Exit.USAGE),
        (["job", "list", "--since", "yesterday"], Exit.USAGE),
        (["job", "list", "--as-of", "2h"], Exit.USAGE),
        (["job", "list", "--as-of", "soon"], Exit.USAGE),
        (["job", "list", "--watch=1ms"], Exit.USAGE),
        (["job", "show", "123"], Exit.USAGE),
        (["job", "cancel"], Exit.USAGE),
        (["job", "cancel", NOBODY, "--filter", "kind:x"], Exit.USAGE),
        (["job", "enqueue", "x", "--args", "[1]"], Exit.USAGE),
        (["job", "enqueue", "x", "--args", "{"], Exit.USAGE),
        (["job", "enqueue", "x", "--args", "@nowhere"], Exit.USAGE),
        (["job", "enqueue", "x", "--priority", "9"], Exit.USAGE),
        (["job", "enqueue", "x", "--delay", "1h", "--run-at", "2030-01-01"], Exit.USAGE),
        (["job", "enqueue", "x", "--unique-for", "1h"], Exit.USAGE),
        (["job", "enqueue", "x", "--depends-on", NOBODY], Exit.USAGE),
        (["dlq", "discard", NOBODY], Exit.USAGE),
        (["db", "rollback", "--to", "0"], Exit.USAGE),
        (["db", "rollback", "--to", "-1"], Exit.USAGE),
        (["worker", "drain"], Exit.USAGE),
        (["worker", "run"], Exit.USAGE),
        (["worker", "run", "nope.py"], Exit.USAGE),
        (["dev"], Exit.USAGE),
        (["job", "show", NOBODY], Exit.NOT_FOUND),
        (["job", "wait", NOBODY], Exit.NOT_FOUND),
        (["job", "cancel", NOBODY], Exit.NOT_FOUND),
        (["queue", "show", "nope"], Exit.NOT_FOUND),
        (["queue", "pause", "nope"], Exit.NOT_FOUND),
        (["worker", "show", "nope"], Exit.NOT_FOUND),
        (["dlq", "show", NOBODY], Exit.NOT_FOUND),
        (["job", "list", "--database-url", UNREACHABLE], Exit.UNREACHABLE),
        (["status", "--database-url", UNREACHABLE], Exit.UNREACHABLE),
        (["job", "list", "--schema", "other"], Exit.UNREACHABLE),
        (["job", "list", "--config", "nowhere.toml"], Exit.CONFIG),
        (["job", "list", "--database-url", "mysql://x"], Exit.CONFIG),
        (["config", "check", "--database-url", "mysql://x"], Exit.CONFIG),
        (["db", "status", "--schema", "other"], Exit.DEGRADED),
        (["doctor", "--database-url", UNREACHABLE], Exit.CRITICAL),
        (["doctor", "--config", "nowhere.toml"], Exit.CRITICAL),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(int(value)),
)
def test_exit_codes(perdure: Command, words: list[str], code: Exit) -> None:
    ended = perdure(*words)
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err + ended.out
    assert "should not happen" not in ended.err
    assert "Zz9" not in ended.err + ended.out


def test_no_database_names_the_next_command(bare: Command) -> None:
    ended = bare("job", "list")
    assert ended.code == Exit.CONFIG
    assert "--database-url" in ended.err
    assert ended.out == ""


def test_missing_migrations_name_the_next_command(bare: Command, empty_database_url: str) -> None:
    perdure = bare.with_database(empty_database_url)
    ended = perdure("job", "list")
    assert (ended.code, "perdure db migrate" in ended.err) == (Exit.UNREACHABLE, True)
    assert perdure("db", "status").code == Exit.DEGRADED
    assert perdure("db", "migrate", "--dry-run").code == Exit.DONE
    assert perdure("db", "status").code == Exit.DEGRADED
    assert [row[1] for row in perdure("db", "migrate").rows] == ["applied"] * len(
        perdure("db", "status").rows
    )
    assert perdure("db", "migrate").out == ""
    assert perdure("job", "list").code == Exit.DONE


def test_rollback_asks_first_and_then_undoes(perdure: Command) -> None:
    planned = perdure("db", "rollback", "--to", "0", "--dry-run")
    undone = perdure("db", "rollback", "--to", "0", "--yes")
    assert [row[0] for row in undone.rows] == [row[0] for row in planned.rows]
    assert perdure("db", "status").code == Exit.DEGRADED


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def test_a_newer_schema_is_left_alone(bare: Command, database_url: str) -> None:
    await execute(database_url, "INSERT INTO perdure.migrations (number, name) VALUES (9999, '9999_future')")
    perdure = bare.with_database(database_url)
    for words in (["job", "list"], ["db", "migrate"], ["db", "status"]):
        process = perdure.process(*words)
        _, err = process.communicate(timeout=60)
        assert process.returncode == Exit.UNREACHABLE
        assert "9999" in err
        assert "PERDURE-5006" in err


async def test_a_user_without_rights_is_told_so(bare: Command, database_url: str) -> None:
    await execute(database_url, "DROP ROLE IF EXISTS lowly")
    await execute(database_url, "CREATE ROLE lowly LOGIN PASSWORD 'Zz9secret'")
    url = database_url.replace("//", "//lowly:Zz9secret@", 1) if "@" not in database_url else ""
    if not url:
        head, _, tail = database_url.partition("@")
        url = f"{head.partition('//')[0]}//lowly:Zz9secret@{tail}"
    process = bare.with_database(url).process("job", "list")
    _, err = process.communicate(timeout=60)
    await execute(database_url, "DROP ROLE lowly")
    assert process.returncode == Exit.NOT_ALLOWED, err
    assert "Zz9" not in err


def test_an_error_tells_what_why_next_and_its_code(perdure: Command) -> None:
    ended = perdure("queue", "pause", "nope")
    assert ended.err.splitlines() == [
        "perdure: there is no queue nope",
        "  next: see `perdure queue list`",
        "  code: PERDURE-2001",
    ]
    assert ended.out == ""


def test_an_error_is_a_document_where_json_is_asked_for(perdure: Command) -> None:
    for flags in (["--json"], ["-o", "json"], ["-o=ndjson"], ["--output", "ndjson"]):
        ended = perdure("job", "list", "--config", "nowhere.toml", *flags)
        document = ended.__class__(0, ended.err, "").json
        assert document["schema"] == "perdure.error/1"
        assert (document["code"], document["exit"], document["field"]) == ("PERDURE-1010", 9, "config")


@pytest.mark.parametrize("flags", [["-vv"], ["-v", "-v"], ["--verbose", "-v"]])
def test_a_traceback_comes_only_when_asked_for_and_without_secrets(bare: Command, flags: list[str]) -> None:
    once = bare("job", "list", "--database-url", UNREACHABLE, "-v")
    twice = bare("job", "list", "--database-url", UNREACHABLE, *flags)
    assert "Traceback" not in once.err
    assert "Traceback" in twice.err
    assert "Zz9" not in once.err + twice.err


def test_secrets_show_nowhere(bare: Command, tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text(
        'database_url = "postgresql://u:Zz9secret@127.0.0.1:1/x"\nredis_url = "redis://:Zz9secret@127.0.0.1:1/0"\n'
    )
    lines = (
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "check"],
        ["doctor"],
        ["doctor", "--json", "-vv"],
        ["status", "-vv"],
        ["job", "list", "--databse-url", "postgresql://u:Zz9secret@h/x"],
        ["job", "list", "--databse-url=postgresql://u:Zz9secret@h/x"],
        ["job", "list", "--database-url", "postgresql://u:Zz9/secret@h/x", "-vv"],
        ["db", "migrate", "-vv"],
    )
    for words in lines:
        ended = bare(*words)
        assert "Zz9" not in ended.out + ended.err, words


def test_a_variable_that_is_no_setting_is_told(bare: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_CONCURENCY", "3")
    monkeypatch.setenv("PERDURE_WORKRS", "3")
    said = bare("config", "check").err.splitlines()
    assert [line for line in said if "WORKRS" in line or "CONCURENCY" in line] == [
        "warning: the environment has PERDURE_CONCURENCY, which is no setting; did you mean PERDURE_CONCURRENCY?",
        "warning: the environment has PERDURE_WORKRS, which is no setting; see `perdure config show` for all",
    ]


def test_a_fingerprint_in_the_place_of_an_id_is_taken_for_one(perdure: Command) -> None:
    ended = perdure("dlq", "replay", "0123456789abcdef", "--yes")
    assert ended.code == Exit.USAGE
    assert "for a group of dead letters: --filter fingerprint:0123456789abcdef" in ended.err
    assert "fingerprint" not in perdure("dlq", "replay", "the-last", "--yes").err


def test_every_error_has_a_code_of_its_own_and_every_exit_a_meaning() -> None:
    kinds = [
        kind
        for module in (errors, embedded_errors)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, PerdureError)
    ]
    assert {kind.__name__ for kind in kinds} <= CODES.keys()
    assert len({code.number for code in CODES.values()}) == len(CODES)
    assert set(MEANINGS) == set(Exit)
    assert code_of(ZeroDivisionError()).exit is Exit.FAILED
    assert code_of(errors.UnknownKind("kind", "x")).exit is Exit.USAGE


def test_interrupted_is_130(perdure: Command) -> None:
    process = perdure.process("job", "list", "--json", "--watch=100ms")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in err


def test_interrupted_at_a_question_is_130_at_once_and_does_nothing(perdure: Command) -> None:
    job = perdure("job", "enqueue", "app.first", "-o", "ids").out.strip()
    master, slave = os.openpty()
    process = perdure.process("job", "cancel", "--kind", "app.first", stdin=slave, start_new_session=True)
    assert process.stderr is not None
    asked = ""
    while "to go on" not in asked:
        asked += process.stderr.read(1)
        assert process.poll() is None, asked
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == Exit.INTERRUPTED
    process.communicate()
    os.close(master)
    os.close(slave)
    assert perdure("job", "show", job, "--json").json["state"] == "available"


def test_a_reader_that_goes_away_is_no_error(perdure: Command) -> None:
    process = perdure.process("job", "list", "--json", "--watch=100ms")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == Exit.PIPE_CLOSED
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_the_version_costs_no_imports(tmp_path: Path) -> None:
    script = (
        "import sys; from perdure.surfaces.cli import main; code = main(['--version']);"
        "print([m for m in ('asyncpg', 'pydantic', 'rich', 'cyclopts', 'redis') if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    version, imported = done.stdout.splitlines()
    assert version.startswith("perdure ")
    assert imported == "[]"
