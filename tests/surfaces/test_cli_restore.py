"""`perdure restore`, as somebody at a terminal meets it."""

import asyncio
import signal

import asyncpg

from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command

MARK = (
    "INSERT INTO perdure.moments (at, cut, newest, open_since) SELECT clock_timestamp(), pg_current_snapshot(),"
    " (SELECT id FROM perdure.jobs ORDER BY id DESC LIMIT 1), now() - interval '1 minute' RETURNING at::text"
)


def sql(perdure: Command, statement: str) -> str:
    async def run() -> str:
        connection = await asyncpg.connect(perdure.variables["PERDURE_DATABASE_URL"])
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()

    return asyncio.run(run())


def enqueue(perdure: Command) -> str:
    return perdure("job", "enqueue", "app.send").out.strip()


def test_a_restore_from_its_plan_to_its_undoing(perdure: Command) -> None:
    """Planned, looked at, refused with a wrong digest, carried out, listed, and taken back."""
    job, other = enqueue(perdure), enqueue(perdure)
    at = sql(perdure, MARK)
    perdure("job", "cancel", job, "--reason", "a mistake")
    perdure("job", "cancel", other)
    looked = perdure("restore", "plan", "--at", at, "--graph", job, "--dry-run", "--json").json
    assert (looked["state"], looked["changes"]) == ("planned", 1)
    assert perdure("restore", "show", looked["id"]).code == Exit.NOT_FOUND, "a dry run keeps no plan"
    planned = perdure("restore", "plan", "--at", at, "--graph", job, "--reason", "brought back", "--json")
    plan = planned.json
    assert f"perdure restore apply {plan['id']} --digest {plan['digest']}" in planned.err
    (case,) = plan["cases"]
    assert (case["circumstance"], case["action"], case["sample"]) == ("cancelled_since", "requeue", [job])
    words = ("restore", "apply", plan["id"], "--digest")
    assert perdure(*words, plan["digest"]).code == Exit.USAGE, "nobody was asked"
    assert perdure(*words, "0" * 64, "--yes").code == Exit.REFUSED
    assert perdure(*words, plan["digest"], "--dry-run", "--json").json["moved"] == 0
    done = perdure(*words, plan["digest"], "--yes", "--json")
    assert (done.code, done.json["state"], done.json["report"]) == (Exit.DONE, "done", "all promises hold")
    assert perdure("job", "show", job, "--json").json["state"] == "available"
    assert perdure("job", "show", other, "--json").json["state"] == "cancelled"
    assert "1 was live, has been cancelled since: requeue" in perdure("restore", "show", plan["id"]).out
    (item,) = perdure("restore", "jobs", plan["id"], "--json").json["items"]
    assert (item["job_id"], item["outcome"]) == (job, "done")
    undoing = perdure("restore", "plan", "--undo", plan["id"], "--json").json
    perdure("restore", "apply", undoing["id"], "--digest", undoing["digest"], "--yes")
    assert perdure("job", "show", job, "--json").json["state"] == "cancelled"
    listed = perdure("restore", "list", "--json").json["items"]
    assert [each["id"] for each in listed] == [undoing["id"], plan["id"]]


def test_what_is_asked_wrongly_is_refused(perdure: Command) -> None:
    job = enqueue(perdure)
    at = sql(perdure, MARK)
    for words in (
        ("restore", "plan"),
        ("restore", "plan", "--at", at, "--undo", job),
        ("restore", "plan", "--at", at, "--choose", "failed_since"),
        ("restore", "plan", "--at", at, "--choose", "failed_since=drain"),
        ("restore", "plan", "--at", at, "--graph", "mine"),
        ("restore", "plan", "--at", at, "--graph", job, "--kind", "app.send"),
        ("restore", "plan", "--at", "100d"),
        ("restore", "show", "mine"),
    ):
        assert perdure(*words).code == Exit.USAGE, words
    assert perdure("restore", "plan", "--at", at, "--queue", "nowhere").code == Exit.NOT_FOUND
    assert perdure("restore", "show", job).code == Exit.NOT_FOUND
    plan = perdure("restore", "plan", "--at", at, "--json").json
    assert perdure("restore", "release", plan["id"]).code == Exit.REFUSED
    assert perdure("restore", "resume", plan["id"], "--json").json["state"] == "planned"


def test_the_process_may_be_killed_in_the_middle(perdure: Command) -> None:
    """While it holds the queue and waits for a running job; whoever carries it on brings it to its end."""
    job = enqueue(perdure)
    at = sql(perdure, MARK)
    perdure("job", "cancel", job)
    plan = perdure("restore", "plan", "--at", at, "--json").json
    process = perdure.process("restore", "apply", plan["id"], "--digest", plan["digest"], "--yes")
    for _ in range(600):
        if sql(perdure, "SELECT phase FROM perdure.restores") == "holding":
            break
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert perdure("restore", "show", plan["id"], "--json").json["state"] == "holding"
    assert perdure("restore", "resume", plan["id"], "--json").json["state"] == "done"
    assert perdure("job", "show", job, "--json").json["state"] == "available"
