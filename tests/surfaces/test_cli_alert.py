"""`perdure alert`, as somebody at a terminal and a script meet it."""

import asyncio

import asyncpg

from perdure.domain.alerts import RULES
from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command
from tests.support.receivers import http_receiver


def test_a_silence_from_its_making_to_its_end(perdure: Command) -> None:
    assert perdure("alert", "list", "--json").json["items"] == []
    words = ("alert", "silence", "PerdureNoWorkers", "media", "--for", "2h")
    assert perdure(*words).code == Exit.USAGE
    made = perdure(*words, "--reason", "deploy", "--actor", "ada", "--json").json
    assert (made["author"], made["target"]) == ("ada", "media")
    assert perdure("alert", "silences", "-o", "ids").out.strip() == made["id"]
    assert perdure("alert", "unsilence", made["id"]).code == Exit.DONE
    assert perdure("alert", "unsilence", made["id"]).code == Exit.NOT_FOUND
    assert perdure("alert", "unsilence", "it").code == Exit.USAGE
    assert perdure("alert", "silence", "Nonsense", "--reason", "x").code == Exit.USAGE


def test_rules_need_no_database(bare: Command) -> None:
    assert len(bare("alert", "rules", "--json").json["items"]) == len(RULES)


def test_channels_are_tried_and_their_addresses_stay_secret(perdure: Command) -> None:
    assert perdure("alert", "test").code == Exit.USAGE
    with http_receiver(200, 500) as receiver:
        here = perdure.with_variables(PERDURE_ALERT_WEBHOOK=f"{receiver.address}/hunter2-secret")
        assert here("alert", "test", "--json").json["items"][0]["outcome"] == "sent"
        failed = here("alert", "test")
        shown = here("config", "show")
    assert failed.code == Exit.FAILED
    assert "status 500" in failed.err
    for text in (failed.err, failed.out, shown.out, shown.err):
        assert "hunter2" not in text
    assert here("alert", "test", "--channel", "slack").code == Exit.USAGE


def test_a_runbook_is_printed_and_an_unknown_alert_is_refused(bare: Command) -> None:
    assert "perdure queue show 'a b'" in bare("alert", "runbook", "PerdureNoWorkers", "a b").out
    assert "\x1b" not in bare("alert", "runbook", "PerdureNoWorkers", "\x1b[2J\u202e").out
    assert bare("alert", "runbook", "Nonsense").code == Exit.NOT_FOUND


async def fire(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO perdure.alerts (rule, target, state, since, seen_at, value, fired_at)"
        " VALUES ('PerdureNoWorkers', 'media', 'firing', now(), now(), 1, now())"
    )
    await connection.close()


def test_the_status_names_the_alerts_that_fire_until_they_are_silenced(
    perdure: Command, database_url: str
) -> None:
    asyncio.run(fire(database_url))
    degraded = perdure("status", "--json")
    assert degraded.code == Exit.DEGRADED
    (reason,) = degraded.json["reasons"]
    assert reason.startswith("alert PerdureNoWorkers fires: ")
    assert "media" in reason
    perdure("alert", "silence", "PerdureNoWorkers", "media", "--for", "2h", "--reason", "known")
    assert perdure("status", "--json").code == Exit.DONE
