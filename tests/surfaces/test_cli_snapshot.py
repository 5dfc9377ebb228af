"""`perdure snapshot` and `perdure at`, as somebody at a terminal meets them."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command
from tests.support.snapshots import OLD


def sql(perdure: Command, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(perdure.variables["PERDURE_DATABASE_URL"])
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def enqueue(perdure: Command) -> str:
    ended = perdure("job", "enqueue", "app.send")
    assert ended.code == Exit.DONE, ended.err
    return ended.out.strip()


def test_a_snapshot_from_its_making_to_its_end(perdure: Command, empty_database_url: str) -> None:
    """Made, listed, shown, verified, continued, compared, brought back elsewhere, and deleted."""
    job = enqueue(perdure)
    first = perdure("snapshot", "create", "--json").json
    assert (first["state"], first["kind"], first["rows"] > 0) == ("whole", "full", True)
    assert (Path(perdure.folder) / ".perdure" / "snapshots" / first["id"] / "manifest.json").exists()
    enqueue(perdure)
    increment = perdure("snapshot", "create", "--base", "newest", "--json").json
    assert (increment["kind"], increment["base"]) == ("incremental", first["id"])
    second = perdure("snapshot", "create", "--json").json
    listed = perdure("snapshot", "list", "--json").json["items"]
    assert [each["id"] for each in listed] == [second["id"], increment["id"], first["id"]]
    parts = perdure("snapshot", "show", first["id"], "--json").json["parts"]
    assert {"jobs": 1}.items() <= {part["name"]: part["rows"] for part in parts}.items()
    verified = perdure("snapshot", "verify", increment["id"], "--json").json
    assert verified["read"] == [first["id"], increment["id"]]
    rows = perdure("snapshot", "diff", first["id"], second["id"], "--json").json["items"]
    assert {"table": "jobs", "first": 1, "second": 2, "more": 1} in rows
    assert perdure("snapshot", "diff", first["id"], increment["id"]).code == Exit.REFUSED

    assert perdure("snapshot", "restore", increment["id"]).code == Exit.REFUSED, "the database is not empty"
    checked = perdure(
        "snapshot", "restore", increment["id"], "--to-database", empty_database_url, "--dry-run"
    )
    assert checked.code == Exit.DONE
    elsewhere = perdure.with_database(empty_database_url)
    assert elsewhere("job", "list").code == Exit.UNREACHABLE, "a dry run touches nothing"
    done = perdure(
        "snapshot", "restore", increment["id"], "--to-database", empty_database_url, "--fork", "--json"
    )
    assert done.json["rows"]["jobs"] == 2
    assert [row[0] for row in elsewhere("job", "list", "-o", "csv", "--fields", "id").rows][1:] != []
    assert elsewhere("job", "show", job).code == Exit.DONE
    assert elsewhere("queue", "list", "--json").json["items"][0]["state"] == "paused"

    assert perdure("snapshot", "delete", first["id"], "--yes").code == Exit.REFUSED
    assert perdure("snapshot", "delete", second["id"]).code == Exit.USAGE, "nobody was asked"
    assert perdure("snapshot", "delete", second["id"], "--yes").code == Exit.DONE
    assert perdure("snapshot", "show", second["id"]).code == Exit.NOT_FOUND
    assert perdure("snapshot", "show", "../../etc").code == Exit.USAGE


MARK = """
INSERT INTO perdure.moments (at, cut, newest, open_since)
SELECT clock_timestamp(), pg_current_snapshot(), (SELECT id FROM perdure.jobs ORDER BY id DESC LIMIT 1), now() - interval '1 second' RETURNING at
"""


def test_recovery_to_a_time_leads_to_the_exact_commit(perdure: Command, empty_database_url: str) -> None:
    """From the newest snapshot on, with what the database still remembers; before the first one it names that."""
    enqueue(perdure)
    sql(perdure, MARK)
    first = perdure("snapshot", "create", "--json").json
    enqueue(perdure)
    then = sql(perdure, MARK)
    assert isinstance(then, datetime)
    enqueue(perdure)
    words = ("snapshot", "restore", "--at")
    elsewhere = ("--to-database", empty_database_url)
    early = perdure(*words, (then - timedelta(hours=1)).isoformat(), *elsewhere)
    assert early.code == Exit.USAGE
    assert first["at"][:19] in early.err
    over = perdure(*words, then.isoformat())
    assert over.code == Exit.REFUSED, "the database is not empty"
    looked = perdure(*words, then.isoformat(), *elsewhere, "--dry-run", "--json").json
    assert (looked["id"], looked["from_history"], looked["gap_s"]) == (first["id"], True, 0.0)
    assert len(perdure("snapshot", "list", "--json").json["items"]) == 1, "a dry run saves nothing"
    done = perdure(*words, then.isoformat(), *elsewhere, "--json")
    assert (done.json["rows"]["jobs"], done.json["chain"][0]) == (2, first["id"])
    assert "to the last commit before" in done.err
    assert perdure("snapshot", "restore").code == Exit.USAGE
    assert perdure("snapshot", "restore", first["id"], "--at", "1h").code == Exit.USAGE


def test_recovery_without_the_database_tells_what_is_lost(perdure: Command, empty_database_url: str) -> None:
    enqueue(perdure)
    first = perdure("snapshot", "create", "--json").json
    enqueue(perdure)
    done = perdure.with_database(empty_database_url)(
        "snapshot", "restore", "--at", datetime.now(UTC).isoformat(), "--json"
    )
    assert (done.json["id"], done.json["rows"]["jobs"]) == (first["id"], 1)
    assert "are lost; no history leads further" in done.err
    assert done.json["gap_s"] > 0


def test_automatic_snapshots_are_asked_for_and_called_off(perdure: Command) -> None:
    assert perdure("snapshot", "auto", "--json").json["state"] == "off"
    on = perdure("snapshot", "auto", "--every", "1h", "--keep", "3", "--json").json
    assert (on["state"], on["every_s"], on["keep"]) == ("on", 3600.0, 3)
    assert perdure("snapshot", "auto", "--json").json == {**on}
    assert perdure("snapshot", "auto", "--every", "1s").code == Exit.USAGE
    assert perdure("snapshot", "auto", "--every", "1h", "--off").code == Exit.USAGE
    assert perdure("snapshot", "auto", "--off", "--json").json["state"] == "off"


def test_at_is_the_same_as_the_option(perdure: Command) -> None:
    refused = perdure("at", "1h", "job", "list")
    assert refused.code == Exit.USAGE
    assert "no moment has been remembered yet" in refused.err
    job = enqueue(perdure)
    sql(
        perdure,
        "INSERT INTO perdure.moments (at, cut, newest, open_since) SELECT now() - interval '1 minute', pg_current_snapshot(),"
        " (SELECT id FROM perdure.jobs), now() RETURNING 1",
    )
    assert job in perdure("at", "50s", "job", "list", "--limit", "1").out
    assert (
        perdure("at", "50s", "job", "list", "--json").json
        == perdure("job", "list", "--as-of", "50s", "--json").json
    )
    assert perdure("at", "50s", "status", "--json").json["schema"] == "perdure.status/1"
    for words in (
        ("job", "cancel", job),
        ("queue", "pause", "default"),
        ("job",),
        ("worker", "run", "app.py"),
    ):
        ended = perdure("at", "50s", *words)
        assert ended.code == Exit.USAGE, words
        assert "does not look back" in ended.err
    assert perdure("at", "soon", "job", "list").code == Exit.USAGE


def test_an_encrypted_snapshot_at_a_terminal(perdure: Command, empty_database_url: str) -> None:
    """Its key stands in the list; without it nothing is restored, the key is named, and what to do."""
    enqueue(perdure)
    keys = perdure.with_variables(PERDURE_ENCRYPTION_KEYS=OLD)
    sealing = keys.with_variables(PERDURE_SNAPSHOT_ENCRYPTION="true")
    missing = perdure.with_variables(PERDURE_SNAPSHOT_ENCRYPTION="true")("snapshot", "create")
    assert missing.code == Exit.CONFIG
    assert "PERDURE_ENCRYPTION_KEYS" in missing.err
    made = sealing("snapshot", "create", "--json").json
    assert made["encrypted_with"] == "old"
    increment = sealing("snapshot", "create", "--base", "newest", "--json").json
    plain = perdure("snapshot", "create", "--json").json
    assert plain["encrypted_with"] is None
    rows = perdure("snapshot", "list", "-o", "csv", "--fields", "id,encrypted_with").out.splitlines()
    assert rows[1:] == [f"{plain['id']},", f"{increment['id']},old", f"{made['id']},old"]
    assert perdure("snapshot", "show", made["id"], "--json").json["encrypted_with"] == "old"
    into = ("--to-database", empty_database_url)
    for words in (("verify", made["id"]), ("restore", increment["id"], *into, "--dry-run")):
        locked = perdure("snapshot", *words)
        assert locked.code == Exit.REFUSED
        assert "PERDURE-3009" in locked.err
        assert "add `old:...` to encryption_keys" in locked.err
    in_place = perdure("restore", "plan", "--snapshot", made["id"])
    assert in_place.code == Exit.REFUSED
    assert "the key 'old', which is not here" in in_place.err
    assert sealing("snapshot", "restore", plain["id"], *into).code == Exit.REFUSED
    assert keys("snapshot", "restore", increment["id"], *into, "--json").json["rows"]["jobs"] == 1
