"""Commands that change something: one by one, in bulk, dry, and refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command, Ended

NOBODY = "00000000-0000-7000-8000-000000000000"


def enqueue(perdure: Command, *words: str, kind: str = "app.send") -> str:
    ended = perdure("job", "enqueue", kind, *words)
    assert ended.code == 0, ended.err
    return ended.out.strip()


def states(perdure: Command) -> dict[str, str]:
    return {item["id"]: item["state"] for item in perdure("job", "list", "--json").json["items"]}


def test_a_job_is_enqueued_as_it_is_described(perdure: Command, tmp_path: Path) -> None:
    parent = enqueue(perdure)
    (tmp_path / "args.json").write_text('{"a": 1}')
    child = enqueue(
        perdure,
        *(
            "--args",
            "@args.json",
            "--queue",
            "mail",
            "--priority",
            "5",
            "--retries",
            "0",
            "--timeout",
            "none",
        ),
        *("--labels", "gpu", "--depends-on", parent, "--on-parent-failure", "run", "--concurrency-key", "k"),
        *("--concurrency-limit", "2", "--unique-key", "u", "--unique-for", "1h"),
    )
    job = perdure("job", "show", child, "--json").json
    assert (job["args"], job["queue"], job["priority"], job["state"]) == ({"a": 1}, "mail", 5, "pending")
    assert (job["max_attempts"], job["timeout"], job["labels"]) == (1, None, ["gpu"])
    assert (job["unique_key"], job["concurrency_key"], job["concurrency_limit"]) == ("u", "k", 2)
    assert job["parents"][0]["job_id"] == parent
    assert job["parents"][0]["on_failure"] == "run"
    later = enqueue(perdure, "--delay", "1h")
    assert states(perdure)[later] == "scheduled"


def test_arguments_come_from_stdin(perdure: Command) -> None:
    job = perdure("job", "enqueue", "app.send", "--args", "-", stdin='{"from": "stdin"}').out.strip()
    assert perdure("job", "show", job, "--json").json["args"] == {"from": "stdin"}


def test_enqueueing_again_with_one_id_enqueues_once(perdure: Command) -> None:
    job = enqueue(perdure)
    again = perdure("job", "enqueue", "app.send", "--id", job, "--json").json["items"][0]
    assert (again["job_id"], again["disposition"]) == (job, "exists")
    assert len(states(perdure)) == 1


def test_a_taken_unique_key_is_a_conflict_or_gives_the_holder(perdure: Command) -> None:
    holder = enqueue(perdure, "--unique-key", "k")
    refused = perdure("job", "enqueue", "app.send", "--unique-key", "k")
    assert refused.code == Exit.REFUSED
    assert "--on-duplicate return" in refused.err
    assert enqueue(perdure, "--unique-key", "k", "--on-duplicate", "return") == holder


def test_a_job_is_enqueued_with_redis_in_front_and_with_redis_away(perdure: Command, redis_url: str) -> None:
    for url in (redis_url, "redis://127.0.0.1:1/0"):
        ended = perdure("job", "enqueue", "app.send", "--redis-url", url)
        assert states(perdure)[ended.out.strip()] == "available"
        assert ended.err.startswith("warning: Redis is away") is (url != redis_url)


def test_a_dry_enqueue_enqueues_nothing(perdure: Command) -> None:
    assert perdure("job", "enqueue", "app.send", "--dry-run").code == 0
    assert states(perdure) == {}


def test_cancel_and_retry_one_with_actor_and_reason(perdure: Command) -> None:
    job = enqueue(perdure)
    words = ("--reason", "not wanted", "--actor", "alice")
    assert perdure("job", "cancel", job, "--dry-run").code == 0
    assert states(perdure)[job] == "available"
    assert perdure("job", "cancel", job, *words).rows == [[job, "cancelled", ""]]
    event = perdure("job", "show", job, "--json").json["events"][0]
    assert (event["actor"], event["reason"]) == ("alice", "not wanted")
    assert perdure("job", "wait", job).code == Exit.FAILED
    assert perdure("job", "retry", job).code == 0
    assert states(perdure)[job] == "available"
    assert perdure("job", "retry", job).code == Exit.REFUSED


def test_several_ids_are_done_one_by_one(perdure: Command) -> None:
    job = enqueue(perdure)
    ended = perdure("job", "cancel", job, NOBODY)
    assert ended.code == Exit.PARTLY
    assert [row[1] for row in ended.rows] == ["cancelled", "refused"]
    assert perdure("job", "cancel", NOBODY, NOBODY[:-1] + "1").code == Exit.NOT_FOUND


def test_bulk_shows_what_matches_and_needs_a_yes(perdure: Command) -> None:
    jobs = [enqueue(perdure, kind=f"app.{name}") for name in ("one", "two", "three")]
    other = enqueue(perdure, kind="other.one")
    asked = perdure("job", "cancel", "--filter", "kind:app.*")
    assert asked.code == Exit.USAGE
    assert "3 jobs match" in asked.err
    assert jobs[0] in asked.err
    assert (
        "1 job matches and is to be changed (cancel)"
        in perdure("job", "cancel", "--filter", "kind:app.one").err
    )
    dry = perdure("job", "cancel", "--filter", "kind:app.*", "--dry-run", "--json").json
    assert (dry["schema"], dry["matched"], dry["dry_run"], dry["changed"]) == ("perdure.report/1", 3, True, 0)
    assert set(states(perdure).values()) == {"available"}
    done = perdure("job", "cancel", "--kind", "app.*", "--yes", "--json").json
    assert (done["matched"], done["changed"]) == (3, 3)
    assert {job for job, state in states(perdure).items() if state == "available"} == {other}
    assert (
        perdure("job", "retry", "--state", "cancelled", "--yes", "--most", "2", "--json").json["changed"] == 2
    )
    assert perdure("job", "cancel", "--kind", "none.*").code == Exit.DONE


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
@pytest.mark.parametrize(("typed", "code"), [("2", Exit.DONE), ("3", Exit.USAGE), ("", Exit.USAGE)])
def test_on_a_terminal_the_count_is_typed(perdure: Command, typed: str, code: Exit) -> None:
    jobs = [enqueue(perdure), enqueue(perdure)]
    ours, theirs = os.openpty()
    process = perdure.process("job", "cancel", "--kind", "app.*", stdin=theirs)
    os.close(theirs)
    os.write(ours, f"{typed}\n".encode())
    _, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == code, err
    wanted = "cancelled" if code is Exit.DONE else "available"
    assert states(perdure) == dict.fromkeys(jobs, wanted)


def test_queues_are_paused_and_resumed(perdure: Command) -> None:
    enqueue(perdure, "--queue", "mail")
    assert perdure("queue", "pause", "mail", "--dry-run").code == 0
    assert perdure("queue", "list").rows[0][1] == "open"
    assert perdure("queue", "pause", "mail", "--reason", "incident").code == 0
    assert perdure("queue", "list").rows[0][1] == "paused"
    assert "paused" in perdure("job", "explain", states(perdure).popitem()[0]).out
    assert perdure("queue", "resume", "mail").code == 0
    assert perdure("queue", "list").rows[0][1] == "open"


APPLICATION = """
from perdure import job

@job(name="app.double", queue="default")
async def double(n: int) -> int:
    return 2 * n

@job(name="app.broken", retries=0)
async def broken(n: int) -> None:
    raise ValueError(f"no good: {n}")
"""


def test_a_worker_runs_jobs_which_end_waits_and_dead_letters(perdure: Command, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    good = enqueue(perdure, "--args", '{"n": 21}', kind="app.double")
    bad = [enqueue(perdure, "--args", json.dumps({"n": n}), kind="app.broken") for n in range(2)]
    worker = perdure.process("worker", "run", "app.py", "--concurrency", "5")
    try:
        waited = perdure("job", "wait", good, "--timeout", "30s")
        assert (waited.code, waited.out) == (Exit.DONE, "42\n"), waited.err
        for job in bad:
            failed = perdure("job", "wait", job, "--timeout", "30s")
            assert failed.code == Exit.FAILED
            assert "no good" in failed.err
        assert perdure("worker", "list", "--json").json["items"][0]["state"] == "active"
        _replays(perdure, bad)
        name = perdure("worker", "list", "--json").json["items"][0]["name"]
        assert perdure("worker", "show", name, "--json").json["pid"] == worker.pid
        assert perdure("worker", "drain", name).code == Exit.DONE
        _, err = worker.communicate(timeout=60)
        assert worker.returncode == 0, err
    finally:
        _end(worker)
    assert perdure("db", "check").code == Exit.DONE


def _replays(perdure: Command, bad: list[str]) -> None:
    (group,) = perdure("dlq", "groups", "--json").json["items"]
    assert group["count"] == 2
    letter = perdure("dlq", "show", bad[0], "--json").json
    assert letter["error"]["type"] == "ValueError"
    assert set(perdure("dlq", "list", "-o", "ids").out.split()) == set(bad)
    dry = perdure(
        "dlq", "replay", "--filter", f"fingerprint:{group['fingerprint']}", "--dry-run", "--json"
    ).json
    assert (dry["matched"], dry["changed"]) == (2, 0)
    discarded = perdure("dlq", "discard", bad[0], "--reason", "known")
    assert discarded.code == Exit.DONE, discarded.err
    replayed: Ended = perdure("dlq", "replay", "--kind", "app.*", "--yes", "--json")
    assert replayed.json["changed"] == 1, replayed.err
    assert perdure("job", "wait", bad[1], "--timeout", "30s").code == Exit.FAILED
    assert perdure("job", "show", bad[1], "--json").json["run"] == 2


def test_a_worker_without_jobs_says_so(perdure: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    for application in ("empty.py", "nowhere.py", "no.such.module"):
        process = perdure.process("worker", "run", application)
        _, err = process.communicate(timeout=60)
        assert process.returncode not in {Exit.DONE, Exit.INTERRUPTED}, err
        assert "perdure: " in err
        assert application in err


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate(timeout=10)
