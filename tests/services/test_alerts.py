"""Alerts on a real database: facts are counted once, alerts fire and end, messages leave once, silences are kept."""

import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from perdure.domain.alerts import BY_NAME, RULES, AlertState, Message, Severity, Step
from perdure.domain.errors import InvalidOption, NotFound, NotifierFailed
from perdure.runtime import beside
from perdure.runtime.alerting import DOWN, RISKS_LAST_S, Alerting, Outage, channels_of
from perdure.runtime.beside import stores_beside
from perdure.runtime.saving import note_verified
from perdure.runtime.settings import Settings
from perdure.services.alerts import Manner, Send, Silencing, Watch, trial
from perdure.services.snapshot import Snapshots
from perdure.stores.notifying.email import Email
from perdure.stores.notifying.prometheus import Alertmanager
from perdure.stores.notifying.slack import Slack
from perdure.stores.notifying.webhook import Webhook, signature
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.alerts import STEP, PostgresAlerts
from perdure.stores.postgres.archive import PostgresArchive
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.statements import statements
from tests.support.receivers import http_receiver, mail_receiver
from tests.support.system import System, failure, system_on
from tests.support.troubles import MODEL_IN_FORCE, OVERDUE_SNAPSHOT

SECRET = "0123456789abcdef"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "alerts.md"
MINUTE = timedelta(minutes=1)
MANNER = Manner(channels=("webhook",), repeat=timedelta(hours=4))


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as made:
        yield made


@pytest.fixture
def alerts(system: System) -> PostgresAlerts:
    return PostgresAlerts(system.database)


class Later:
    """A clock ahead of the real one."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return self.ahead.total_seconds()


STEP_MS = STEP // timedelta(milliseconds=1)
SKEW = timedelta(minutes=1)
"""How far a producer's clock may be off for its jobs to be counted."""


async def let_all_count(system: System) -> None:
    """As if everything so far had happened ten seconds ago, which is when it is counted."""
    for table, column in (("job_executions", "settled_at"), ("jobs", "enqueued_at"), ("job_events", "at")):
        await system.sql.execute(f"UPDATE perdure.{table} SET {column} = {column} - interval '10 seconds'")
    await system.sql.execute("UPDATE perdure.alert_watch SET counted_to = now() - interval '9 minutes'")


async def test_what_happened_is_counted_once(system: System, alerts: PostgresAlerts) -> None:
    for _ in range(3):
        await system.add()
        await system.run()
    await system.dead()
    await let_all_count(system)
    facts = [await alerts.facts() for _ in range(2)]
    for one in facts:
        assert (one.attempts, one.failed, one.finished, one.died, one.died_15m) == (4, 1, 4, 1, 1)
        assert [(kind.ended, kind.failed) for kind in one.kinds] == [(4, 1)]
        assert one.dead_letters == 1
        assert one.oldest_letter_s >= 0
        assert one.connections_max > one.connections > 0
        assert one.workers >= 1
        assert {waits.started for waits in one.waits} == {4}


async def test_a_count_reads_jobs_from_where_the_last_one_ended(
    system: System, alerts: PostgresAlerts
) -> None:
    """And from a minute before, for clocks that are off: all of ten minutes may be millions."""
    await alerts.facts()
    counted_to = await system.sql.fetchval("SELECT counted_to FROM perdure.alert_watch")
    span_to_count = statements("alerts")["span_to_count"].numbered()
    (span,) = await system.sql.fetch(span_to_count, counted_to + timedelta(seconds=35), STEP_MS)
    assert (span["counted_to"], span["since"]) == (counted_to, counted_to)
    assert span["until"] == counted_to + timedelta(seconds=30)
    for bound, moment in (("first", counted_to - SKEW), ("last", span["until"] + SKEW)):
        made = datetime.fromtimestamp((span[bound].int >> 80) / 1000, UTC)
        assert abs(moment - made) < timedelta(milliseconds=2)
    assert await system.sql.fetch(span_to_count, counted_to + timedelta(seconds=5), STEP_MS) == []
    (span,) = await system.sql.fetch(span_to_count, counted_to + timedelta(minutes=7), STEP_MS)
    assert span["until"] - span["since"] == STEP


async def test_who_comes_second_to_a_count_counts_nothing(system: System, alerts: PostgresAlerts) -> None:
    await system.add()
    await let_all_count(system)
    (span,) = await system.sql.fetch(statements("alerts")["span_to_count"].numbered(), None, 10 * STEP_MS)
    for _ in range(2):
        await system.sql.execute(statements("alerts")["count_up"].numbered(), *span, 10.0)
    assert await system.sql.fetchval("SELECT sum(enqueued) FROM perdure.alert_counts") == 1
    assert await system.sql.fetchval("SELECT counted_to FROM perdure.alert_watch") == span["until"]


async def test_an_alert_fires_is_told_once_and_is_over(system: System, alerts: PostgresAlerts) -> None:
    clock = Later()
    watch = Watch(alerts, MANNER, clock)
    await system.add("nobody.knows")
    looks = []
    for minutes in (0, 4, 8, 11):
        clock.ahead = timedelta(minutes=minutes)
        looks.append(await watch.run_once())
    assert [look.fired for look in looks] == [
        (),
        ("PerdureNoWorkers(default)",),
        (),
        ("PerdureJobsUnserved",),
    ]
    assert [look.messages for look in looks] == [0, 1, 0, 1]
    await system.sql.execute("DELETE FROM perdure.available_jobs")
    for minutes in (12, 17):
        clock.ahead = timedelta(minutes=minutes)
        looks.append(await watch.run_once())
    assert looks[-1].resolved == ("PerdureJobsUnserved", "PerdureNoWorkers(default)")
    assert await system.count("alert_messages", "body ->> 'rule' = 'PerdureJobsUnserved'") == 2
    assert await system.count("job_events", "event = 'alert_fired' AND queue = 'default'") == 1
    assert await system.count("job_events", "event = 'alert_resolved'") == 2


class Still:
    """A clock that stands."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


async def test_two_leaders_at_once_say_it_once(system: System, alerts: PostgresAlerts) -> None:
    """The second look stands for a leader that judged what it had read before the first one wrote."""
    await system.add("nobody.knows")
    start = datetime.now(UTC)
    for minutes in (0, 3):
        await Watch(alerts, MANNER, Still(start + timedelta(minutes=minutes))).run_once()
    assert await system.count("alert_messages") == 1
    await system.sql.execute(
        "UPDATE perdure.alerts SET state = 'pending', fired_at = NULL, told = NULL, told_at = NULL"
    )
    again = await Watch(alerts, MANNER, Still(start + timedelta(minutes=3))).run_once()
    assert again.messages == 1
    assert await system.count("alert_messages") == 1


async def test_a_signed_message_gets_through_at_the_second_try(
    system: System, alerts: PostgresAlerts
) -> None:
    said = replace(trial(), id=uuid4())
    with http_receiver(503) as receiver:
        send = Send(alerts, {"webhook": Webhook(receiver.address, SECRET)})
        await keep(alerts, "webhook", said)
        assert (await send.run_once()).refused == {
            "webhook": "webhook: the receiver answered with status 503"
        }
        assert (await send.run_once()).delivered == 0
        await system.sql.execute("UPDATE perdure.alert_messages SET next_at = now()")
        assert (await send.run_once()).delivered == 1
        assert (await send.run_once()).delivered == 0
    (_, first, _), (_, headers, body) = receiver.got
    assert headers["idempotency-key"] == first["idempotency-key"] == str(said.id)
    assert headers["perdure-signature"] == "v1=" + signature(SECRET, headers["perdure-timestamp"], body)
    assert msgspec.json.decode(body)["schema"] == "perdure.alert_message/1"


async def test_the_receiver_of_the_guide_takes_what_is_ours_and_nothing_else() -> None:
    """The example of the guide, run as it stands on what a server received."""
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    made: dict[str, Any] = {}
    exec(example, made)  # noqa: S102 - our own page
    is_ours = made["is_ours"]
    with http_receiver() as receiver:
        await Webhook(receiver.address, SECRET).send(trial())
    (_, headers, body) = receiver.got[0]
    assert is_ours(SECRET, headers, body)
    assert not is_ours(SECRET, headers, body + b" ")
    assert not is_ours("another secret", headers, body)
    assert not is_ours(SECRET, {**headers, "perdure-timestamp": "1"}, body)


async def keep(alerts: PostgresAlerts, channel: str, said: Message) -> None:
    await alerts.keep(Step(alerts=(), forgotten=(), fired=(), resolved=()), {channel: [said]})


async def test_a_channel_that_fails_again_is_a_fact(system: System, alerts: PostgresAlerts) -> None:
    send = Send(alerts, {})
    await keep(alerts, "slack", trial())
    for _ in range(2):
        await system.sql.execute("UPDATE perdure.alert_messages SET next_at = now()")
        await send.run_once()
    assert (await alerts.facts()).failing_channels == ("slack",)


async def test_slack_shows_names_as_text() -> None:
    hostile = replace(trial(), lines=("<!channel> & <https://x|y>",))
    with http_receiver() as receiver:
        await Slack(receiver.address).send(hostile)
    assert "&lt;!channel&gt; &amp; &lt;https://x|y&gt;" in msgspec.json.decode(receiver.got[0][2])["text"]


async def test_alertmanager_gets_one_alert_for_each_target() -> None:
    said = replace(trial(), label="queue", targets=("a", "b"), lines=("1", "2"))
    with http_receiver() as receiver:
        await Alertmanager(receiver.address + "/", repeat=timedelta(hours=4)).send(said)
    path, _, body = receiver.got[0]
    assert path == "/api/v2/alerts"
    assert [alert["labels"]["queue"] for alert in msgspec.json.decode(body)] == ["a", "b"]


async def test_mail_has_the_text_and_an_id_of_its_own() -> None:
    said = trial()
    with mail_receiver() as receiver:
        await Email(receiver.address, sender="a@example.com", recipients=["b@example.com"]).send(said)
    mail = receiver.got[0][2].decode()
    assert f"<{said.id}@perdure>" in mail
    assert "Nothing is wrong" in mail


async def test_a_password_is_not_sent_without_tls() -> None:
    with mail_receiver() as receiver:
        url = receiver.address.replace("smtp://", "smtp://me:hunter2-secret@")
        channel = Email(url, sender="a@example.com", recipients=["b@example.com"])
        with pytest.raises(NotifierFailed, match="no TLS"):
            await channel.send(trial())
    assert not receiver.got


@pytest.mark.parametrize("status", [301, 307, 404, 500])
async def test_a_failure_names_no_address_and_follows_no_redirect(status: int) -> None:
    with http_receiver(status) as receiver:
        for channel in (Webhook(receiver.address + "/hunter2"), Slack(receiver.address + "/hunter2")):
            receiver.statuses = [status]
            with pytest.raises(NotifierFailed) as refused:
                await channel.send(trial())
            assert "hunter2" not in refused.value.message + str(refused.value.__cause__)
    with pytest.raises(NotifierFailed, match="cannot be reached") as refused:
        await Webhook("http://127.0.0.1:1/hunter2").send(trial())
    assert "hunter2" not in refused.value.message


async def test_mail_that_is_refused_says_so() -> None:
    with mail_receiver(refuses=True) as receiver, pytest.raises(NotifierFailed, match="code 550"):
        await Email(receiver.address, sender="a@example.com", recipients=["b@example.com"]).send(trial())


async def test_a_silence_has_an_author_a_reason_and_an_end(system: System, alerts: PostgresAlerts) -> None:
    faces = Silencing(alerts)
    made = await faces.silence(
        "PerdureNoWorkers", "media", author="ada", reason="deploy", lasts=timedelta(hours=1)
    )
    assert (await faces.page()).silences == (made,)
    await faces.unsilence(made.id, author="bob")
    assert (await faces.page()).silences == ()
    with pytest.raises(NotFound):
        await faces.unsilence(made.id, author="bob")
    trail = await system.sql.fetch(
        "SELECT event, actor FROM perdure.job_events WHERE event LIKE 'alert%' ORDER BY at"
    )
    assert [tuple(row) for row in trail] == [("alert_silenced", "ada"), ("alert_unsilenced", "bob")]


@pytest.mark.parametrize(
    ("rule", "reason", "hours"),
    [("Nonsense", "why", 1), ("*", " ", 1), ("*", "why", 0), ("*", "why", 24 * 31), ("*", "w\0y", 1)],
)
async def test_a_silence_that_makes_no_sense_is_refused(
    alerts: PostgresAlerts, rule: str, reason: str, hours: int
) -> None:
    with pytest.raises(InvalidOption):
        await Silencing(alerts).silence(rule, author="ada", reason=reason, lasts=timedelta(hours=hours))


async def test_an_outage_is_told_without_the_database() -> None:
    """What does not get through is told again, on this channel alone; the end is told where the beginning was."""
    nowhere = DedicatedDatabase("postgresql://127.0.0.1:1/none", application_name="tests")
    with http_receiver(500, 200, 500) as receiver, http_receiver() as other:
        settings = Settings.model_validate({"alert_webhook": receiver.address, "alert_slack": other.address})
        alerting = Alerting(settings, PostgresAlerts(nowhere))
        for away in (False, True):
            await alerting.tell_of_outage(away=away)
        assert not receiver.got
        for outage in alerting._outages.values():
            outage._since = datetime.now(UTC) - DOWN.hold
        for away in (True, True, True, False, False, False):
            await alerting.tell_of_outage(away=away)
    said = [msgspec.json.decode(body) for _, _, body in receiver.got]
    assert {one["alert"] for one in said} == {"PerdurePostgresDown"}
    assert [one["status"] for one in said] == ["firing", "firing", "resolved", "resolved"]
    assert said[0]["id"] == said[1]["id"]
    assert len(other.got) == 2


async def failed(system: System, alerts: PostgresAlerts, times: int) -> tuple[tuple[str, int], ...]:
    """So many further failures of one kind, counted; gives the errors that are new."""
    began = await system.sql.fetchval("SELECT clock_timestamp()")
    for _ in range(times):
        await system.add()
        await system.run(failure(retry_in=3600))
    back = timedelta(seconds=20)
    await system.sql.execute(
        "UPDATE perdure.job_executions SET settled_at = settled_at - $1::interval WHERE settled_at > $2",
        back,
        began,
    )
    await system.sql.execute("UPDATE perdure.alert_watch SET counted_to = $1", began - back)
    return (await alerts.facts()).new_errors


async def test_an_error_is_new_once_and_counts_its_first_ten_minutes(
    system: System, alerts: PostgresAlerts
) -> None:
    assert await failed(system, alerts, 3) == (("fp-boom", 3),)
    assert await failed(system, alerts, 2) == (("fp-boom", 5),)
    moved = (
        "UPDATE perdure.known_errors SET first_at = first_at - $1::interval, seen_at = seen_at - $2::interval"
    )
    await system.sql.execute(moved, 11 * MINUTE, timedelta(0))
    assert await failed(system, alerts, 1) == (("fp-boom", 5),), "the first ten minutes are over"
    await system.sql.execute(moved, timedelta(hours=1), timedelta(0))
    assert await failed(system, alerts, 1) == (), "it is known"
    await system.sql.execute(moved, timedelta(days=40), timedelta(days=31))
    assert await failed(system, alerts, 1) == (("fp-boom", 1),), "it had not come for a month"


async def test_errors_that_have_not_come_for_a_month_are_forgotten(
    system: System, alerts: PostgresAlerts
) -> None:
    await system.sql.execute(
        "INSERT INTO perdure.known_errors SELECT 'fp-' || n, now(), now() - n * interval '1 second', 1 FROM generate_series(1, 10010) n"
    )
    await system.sql.execute(
        "UPDATE perdure.known_errors SET seen_at = now() - interval '31 days' WHERE fingerprint = 'fp-1'"
    )
    await alerts.sweep()
    assert await system.count("known_errors") == 10_000
    assert await system.count("known_errors", "fingerprint IN ('fp-1', 'fp-10010')") == 0
    assert await system.count("known_errors", "fingerprint = 'fp-2'") == 1


async def test_the_leader_tells_of_stores_that_are_down_and_of_failures_to_come(
    system: System, alerts: PostgresAlerts
) -> None:
    """What the database does not know: Redis and Qdrant are asked, and predictions come from the look after the workers' health."""
    await system.sql.execute(MODEL_IN_FORCE, 0.1)
    nowhere = {"redis_url": "redis://127.0.0.1:1/0", "qdrant_url": "http://127.0.0.1:1"}
    alerting = Alerting(Settings.model_validate(nowhere), alerts)
    alerting.note_risks({"w1": 0.9, "w2": 0.2})
    await alerting.look()
    found = {(alert.rule, alert.target) for alert in await alerts.alerts()}
    assert found >= {
        ("PerdureRedisDown", ""),
        ("PerdureQdrantDown", ""),
        ("PerdureWorkerFailureLikely", "w1"),
    }
    assert ("PerdureWorkerFailureLikely", "w2") not in found


@pytest.mark.parametrize(("status", "is_up"), [(200, True), (500, False)])
async def test_a_store_that_answers_is_up(redis_url: str, status: int, is_up: bool) -> None:
    assert await stores_beside(Settings()) == {}
    with http_receiver(status) as receiver:
        there = {"redis_url": redis_url, "qdrant_url": receiver.address, "qdrant_api_key": "k"}
        assert await stores_beside(Settings.model_validate(there)) == {"redis": True, "qdrant": is_up}


async def test_a_store_that_hangs_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "WITHIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert await stores_beside(Settings.model_validate({"qdrant_url": url})) == {"qdrant": False}


async def test_a_snapshot_that_was_read_again_is_noted(
    system: System, alerts: PostgresAlerts, database_url: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate({"database_url": database_url})
    assert not await note_verified(settings), "no automatic snapshots are wanted"
    await system.sql.execute(OVERDUE_SNAPSHOT)
    unverified = BY_NAME["PerdureSnapshotUnverified"].condition
    assert unverified(await alerts.facts())
    assert await note_verified(settings)
    assert not unverified(await alerts.facts())
    assert not await note_verified(Settings(data_dir=tmp_path)), "no server runs for this folder"


async def test_predictions_are_forgotten_when_none_follow(system: System, alerts: PostgresAlerts) -> None:
    await system.sql.execute(MODEL_IN_FORCE, 0.1)
    alerting = Alerting(Settings(), alerts)
    alerting.note_risks({"w1": 0.9})
    alerting._risks_at -= RISKS_LAST_S
    await alerting.look()
    assert "PerdureWorkerFailureLikely" not in {alert.rule for alert in await alerts.alerts()}


def test_an_outage_is_told_after_its_time_and_its_end_if_it_was_told() -> None:
    outage, now = Outage(), datetime.now(UTC)
    assert outage.lasts(now) is None
    assert outage.over(now) is None
    assert outage.lasts(now + DOWN.hold) is None
    firing = outage.lasts(now + 2 * DOWN.hold)
    assert firing is not None
    assert (firing.state, firing.since) == (AlertState.FIRING, now + DOWN.hold)
    outage.told(firing)
    assert outage.lasts(now + 3 * DOWN.hold) is None
    over = outage.over(now + 4 * DOWN.hold)
    assert over is not None
    assert over.state is AlertState.RESOLVED
    outage.told(over)
    assert outage.over(now + 5 * DOWN.hold) is None


async def test_a_copy_has_the_silences_and_tells_nothing_again(
    system: System, alerts: PostgresAlerts, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    made = await Silencing(alerts).silence("*", author="ada", reason="move", lasts=timedelta(hours=1))
    await keep(alerts, "webhook", trial())
    snapshots = Snapshots(PostgresArchive(database_url), ObjectVault(str(tmp_path)))
    manifest = await snapshots.create()
    await snapshots.restore(manifest.id, PostgresArchive(empty_database_url), fork=True, actor="tests")
    async with system_on(empty_database_url) as copy:
        copied = PostgresAlerts(copy.database)
        assert [silence.id for silence in await copied.silences()] == [made.id]
        assert await copied.due(10) == []
        assert (await copied.facts()).attempts == 0
    assert len(await alerts.due(10)) == 1


def test_channels_are_those_that_the_settings_name() -> None:
    assert set(channels_of(Settings())) == set()
    settings = Settings.model_validate(
        {
            "alert_webhook": "https://a.example",
            "alert_slack": "https://b.example",
            "alert_smtp": "smtp://c.example",
            "alert_email_from": "a@example.com",
            "alert_email_to": "b@example.com, c@example.com",
            "alert_alertmanager": "http://d.example:9093",
        }
    )
    assert set(channels_of(settings)) == {"webhook", "slack", "email", "alertmanager"}


def test_pages_concern_promises_only() -> None:
    assert {rule.severity for rule in RULES} == set(Severity)
