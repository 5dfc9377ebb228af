"""Alerts: each rule fires when it should and not otherwise, alerts have a memory, and messages are said once."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.alerts import (
    BY_NAME,
    RULES,
    Alert,
    AlertState,
    Facts,
    Finding,
    KindFacts,
    QueueFacts,
    Rule,
    Severity,
    Silence,
    TableFacts,
    Waits,
    advance,
    notices,
)
from perdure.domain.alerts.notices import command, text_of
from perdure.domain.alerts.runbooks import Links, Section, filled, parse_runbook

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
REPEAT = timedelta(hours=4)
CALM = Facts(
    queues=(QueueFacts(name="q", workers=1),), workers=4, slots=40, connections=8, connections_max=100
)


def queue(**facts: object) -> Facts:
    return replace(CALM, queues=(replace(CALM.queues[0], **facts),))  # type: ignore[arg-type] # names are those of the fields


def waits(late: int, *spans: timedelta) -> Facts:
    return replace(CALM, waits=tuple(Waits(span=span, started=100, late=late) for span in spans))


EXAMPLES: dict[str, tuple[Facts, Facts]] = {
    "PerdureNoWorkers": (queue(available=1, workers=0), queue(available=1, workers=0, paused=True)),
    "PerdureJobsUnserved": (replace(CALM, unserved=1), CALM),
    "PerdureQueueWaitBurnFast": (
        waits(73, 5 * MINUTE, 60 * MINUTE),
        waits(72, 5 * MINUTE, 60 * MINUTE),
    ),
    "PerdureQueueWaitBurnSlow": (
        waits(31, 30 * MINUTE, 360 * MINUTE),
        waits(31, 360 * MINUTE),
    ),
    "PerdureHeadOfLineStuck": (queue(oldest_s=601), queue(oldest_s=600)),
    "PerdureBacklogWillNotDrain": (
        queue(available=3601, finishing=2, arriving=1),
        queue(available=3600, finishing=2, arriving=1),
    ),
    "PerdureQueueSaturated": (
        replace(queue(available=1), busy=37),
        replace(queue(available=1), busy=36),
    ),
    "PerdureErrorRatioHigh": (
        replace(CALM, kinds=(KindFacts(kind="k", ended=20, failed=2),)),
        replace(CALM, kinds=(KindFacts(kind="k", ended=19, failed=19),)),
    ),
    "PerdureErrorRatioExtreme": (
        replace(CALM, kinds=(KindFacts(kind="k", ended=20, failed=11),)),
        replace(CALM, kinds=(KindFacts(kind="k", ended=20, failed=10),)),
    ),
    "PerdureRetryRateHigh": (
        replace(CALM, attempts=100, failed=8, died=2),
        replace(CALM, attempts=100, failed=8, died=3),
    ),
    "PerdureRetryStorm": (
        replace(CALM, attempts=100, finished=33),
        replace(CALM, attempts=100, finished=34),
    ),
    "PerdureDeadLettersMany": (replace(CALM, dead_letters=101), replace(CALM, dead_letters=100)),
    "PerdureDeadLettersGrowing": (replace(CALM, died_15m=1), CALM),
    "PerdureDeadLetterFlood": (replace(CALM, died=101), replace(CALM, died=100)),
    "PerdureDeadLetterStale": (
        replace(CALM, oldest_letter_s=259_201),
        replace(CALM, oldest_letter_s=259_200),
    ),
    "PerdureWorkerSilent": (replace(CALM, heartbeat_age_s=31), replace(CALM, heartbeat_age_s=30)),
    "PerdureWorkerFailureRate": (
        replace(CALM, workers=8, workers_lost=1),
        replace(CALM, workers=9, workers_lost=1),
    ),
    "PerdureEvacuationStuck": (replace(CALM, evacuation_late_s=61), replace(CALM, evacuation_late_s=60)),
    "PerdureStaleWritesRefused": (replace(CALM, refused=1), CALM),
    "PerdureJobsOverdue": (replace(CALM, overdue=1), CALM),
    "PerdureNoLeader": (replace(CALM, leaders=0), CALM),
    "PerdurePostgresDown": (replace(CALM, postgres_up=False), CALM),
    "PerdureConnectionsExhausted": (replace(CALM, connections=81), replace(CALM, connections=80)),
    "PerdureLongTransaction": (
        replace(CALM, oldest_transaction_s=901),
        replace(CALM, oldest_transaction_s=900),
    ),
    "PerdureTableBloat": (
        replace(CALM, tables=(TableFacts(name="leases", dead=60_001, live=30_000),)),
        replace(CALM, tables=(TableFacts(name="leases", dead=60_000, live=30_000),)),
    ),
    "PerdureQueuePausedTooLong": (queue(paused=True), CALM),
    "PerdureSnapshotOverdue": (replace(CALM, snapshot_late_s=601), replace(CALM, snapshot_late_s=600)),
    "PerdureWorkersDeaf": (replace(CALM, deaf=1), CALM),
    "PerdureSnapshotUnverified": (
        replace(CALM, snapshot_verified_age_s=604_801),
        replace(CALM, snapshot_verified_age_s=604_800),
    ),
    "PerdureRestoreFailed": (replace(CALM, restores_failed=1), CALM),
    "PerdureFlowBlocked": (replace(CALM, held=1), CALM),
    "PerdureNewErrorFingerprint": (
        replace(CALM, new_errors=(("fp", 10),)),
        replace(CALM, new_errors=(("fp", 9),)),
    ),
    "PerdureWorkerFlapping": (
        replace(CALM, short_lives=(("host", 4),)),
        replace(CALM, short_lives=(("host", 3),)),
    ),
    "PerdureWorkerFailureLikely": (
        replace(CALM, risks=(("w", 0.81),), calibration_error=0.15),
        replace(CALM, risks=(("w", 0.80),), calibration_error=0.15),
    ),
    "PerdureModelMiscalibrated": (
        replace(CALM, calibration_error=0.16),
        replace(CALM, calibration_error=0.15),
    ),
    "PerdureEmbeddingBacklog": (
        replace(CALM, embedding_backlog=10_001),
        replace(CALM, embedding_backlog=10_000),
    ),
    "PerdureRedisDown": (
        replace(CALM, stores_down=frozenset({"redis"})),
        replace(CALM, stores_down=frozenset({"qdrant"})),
    ),
    "PerdureQdrantDown": (
        replace(CALM, stores_down=frozenset({"qdrant"})),
        replace(CALM, stores_down=frozenset({"redis"})),
    ),
    "PerdureNotifierFailing": (replace(CALM, failing_channels=("slack",)), CALM),
    "PerdureMetricsAbsent": (replace(CALM, exported=False), CALM),
}


@pytest.mark.parametrize("name", [rule.name for rule in RULES if rule.name != "PerdureWatchdog"])
def test_each_rule_holds_just_above_its_limit_and_not_at_it(name: str) -> None:
    bad, good = EXAMPLES[name]
    assert BY_NAME[name].condition(bad)
    assert not BY_NAME[name].condition(good)
    assert not BY_NAME[name].condition(CALM)
    assert bool(BY_NAME[name].label) == bool(BY_NAME[name].condition(bad)[0].target)


@pytest.mark.parametrize("error", [None, 0.16])
def test_a_failure_is_told_as_likely_only_by_a_model_that_can_be_trusted(error: float | None) -> None:
    facts = replace(CALM, risks=(("w", 0.99),), calibration_error=error)
    assert not BY_NAME["PerdureWorkerFailureLikely"].condition(facts)


def rule(hold: timedelta = 2 * MINUTE, keep: timedelta = 5 * MINUTE) -> Rule:
    """A rule of our own about overdue jobs."""
    return replace(BY_NAME["PerdureJobsOverdue"], hold=hold, keep=keep)


def walk(overdue: list[bool], one: Rule, step: timedelta = MINUTE) -> list[AlertState | None]:
    """How the alert stands after each look."""
    alerts: tuple[Alert, ...] = ()
    states = []
    for number, holds in enumerate(overdue):
        facts = replace(CALM, overdue=int(holds))
        alerts = advance(alerts, facts, [one], NOW + number * step).alerts
        states.append(alerts[0].state if alerts else None)
    return states


def test_an_alert_fires_after_its_time_and_is_over_after_its_calm() -> None:
    pending, firing, resolved = AlertState.PENDING, AlertState.FIRING, AlertState.RESOLVED
    assert walk([True, True, True, False, False, False, False, False], rule()) == [
        pending,
        pending,
        firing,
        firing,
        firing,
        firing,
        firing,
        resolved,
    ]


def test_a_condition_that_stops_before_its_time_is_forgotten() -> None:
    assert walk([True, True, False, True, True], rule())[2] is None
    assert AlertState.FIRING not in walk([True, True, False, True, True], rule())


def test_a_gap_in_looking_starts_the_wait_anew() -> None:
    assert walk([True, True], rule(hold=5 * MINUTE), step=10 * MINUTE) == [AlertState.PENDING] * 2


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5), st.integers(0, 5))
def test_an_alert_fires_only_after_an_unbroken_time_and_ends_only_after_unbroken_calm(
    overdue: list[bool], hold: int, keep: int
) -> None:
    states = walk(overdue, rule(hold * MINUTE, keep * MINUTE))
    before: AlertState | None = None
    for number, state in enumerate(states):
        if state is AlertState.FIRING and before is not AlertState.FIRING:
            assert all(overdue[max(0, number - hold) : number + 1])
            assert number >= hold
        if state is AlertState.RESOLVED and before is AlertState.FIRING:
            assert not any(overdue[max(0, number - max(keep, 1) + 1) : number + 1])
        before = state


def firing(target: str = "", **more: object) -> Alert:
    base = Alert(
        rule="PerdureHeadOfLineStuck",
        target=target,
        state=AlertState.FIRING,
        since=NOW,
        seen_at=NOW,
        fired_at=NOW,
        value=700,
    )
    return replace(base, **more)  # type: ignore[arg-type] # names are those of the fields


def test_what_fires_together_is_said_together_once_and_again_after_a_while() -> None:
    links = Links(dashboard="https://p.example/")
    said = notices([firing("a"), firing("b")], [], now=NOW, repeat=REPEAT, links=links)
    assert [message.targets for message in said.messages] == [("a", "b")]
    assert said.messages[0].dashboard_url == "https://p.example/queues"
    assert said.messages[0].runbook_url == "https://p.example/runbooks/PerdureHeadOfLineStuck?target=a"
    assert not notices(said.alerts, [], now=NOW + MINUTE, repeat=REPEAT).messages
    again = notices(said.alerts, [], now=NOW + REPEAT, repeat=REPEAT).messages
    assert len(again) == 1
    assert again[0].id != said.messages[0].id


def test_of_a_rule_that_nobody_here_knows_nothing_is_said() -> None:
    """A newer program has led before, and its alert is over or still fires."""
    over = {"state": AlertState.RESOLVED, "resolved_at": NOW, "told": AlertState.FIRING, "told_at": NOW}
    for stranger in (firing("a", rule="PerdureOfTomorrow"), firing("a", rule="PerdureOfTomorrow", **over)):
        said = notices([stranger, firing("a")], [], now=NOW, repeat=REPEAT)
        assert [message.rule for message in said.messages] == ["PerdureHeadOfLineStuck"]
        assert not notices(said.alerts, [], now=NOW + MINUTE, repeat=REPEAT).messages


def test_the_same_thing_has_the_same_id() -> None:
    first, second = (notices([firing("a")], [], now=NOW, repeat=REPEAT).messages[0] for _ in range(2))
    assert first.id == second.id


def test_the_end_is_told_to_those_who_heard_of_the_beginning() -> None:
    over = {"state": AlertState.RESOLVED, "resolved_at": NOW}
    heard = firing("a", told=AlertState.FIRING, told_at=NOW, **over)
    assert [m.status for m in notices([heard], [], now=NOW, repeat=REPEAT).messages] == ["resolved"]
    assert not notices([firing("a", **over)], [], now=NOW, repeat=REPEAT).messages


@pytest.mark.parametrize(
    ("rule_name", "target", "lasts", "is_silent"),
    [
        ("*", "", 60, True),
        ("PerdureHeadOfLineStuck", "a", 60, True),
        ("PerdureHeadOfLineStuck", "b", 60, False),
        ("PerdureNoWorkers", "", 60, False),
        ("*", "", 0, False),
    ],
)
def test_a_silence_keeps_quiet_what_it_covers_until_it_expires(
    rule_name: str, target: str, lasts: int, is_silent: bool
) -> None:
    silence = Silence(
        id=uuid4(),
        rule=rule_name,
        target=target,
        author="ada",
        reason="deploy",
        created_at=NOW - MINUTE,
        expires_at=NOW + timedelta(seconds=lasts),
    )
    said = notices([firing("a")], [silence], now=NOW, repeat=REPEAT)
    assert (not said.messages) is is_silent
    assert notices(said.alerts, [], now=NOW + MINUTE, repeat=REPEAT).messages or not is_silent


def test_a_message_says_what_since_when_and_what_to_do() -> None:
    text = text_of(
        notices([firing("a")], [], now=NOW, repeat=REPEAT, links=Links(dashboard="https://p")).messages[0]
    )
    for part in (
        "queue a has waited for 0:11:40",
        "2030-01-01 00:00:00 UTC",
        "perdure job list",
        "https://p/queues",
    ):
        assert part in text


def test_names_are_unique_and_every_text_can_be_filled() -> None:
    assert len(BY_NAME) == len(RULES)
    for one in RULES:
        assert one.severity in Severity
        assert "{target}" not in one.summary or one.label
        assert one.summary.format(target="t", value="1")
        assert one.command.format(target="t").startswith("perdure ")
    assert Finding().target == ""


def test_runbooks_of_ones_own_are_named_after_the_rules() -> None:
    links = Links(dashboard="https://p", runbooks="https://wiki.example/books/")
    (said,) = notices([firing("a")], [], now=NOW, repeat=REPEAT, links=links).messages
    assert said.runbook_url == "https://wiki.example/books/PerdureHeadOfLineStuck"


HOSTILE = "'; rm -rf / #\n```\n$ echo `id`"


def test_a_hostile_name_stays_one_word_of_a_command() -> None:
    one = BY_NAME["PerdureNoWorkers"]
    assert shlex.split(command(one, HOSTILE)) == ["perdure", "queue", "show", HOSTILE]
    text = "# PerdureNoWorkers\n" + "".join(
        f"\n## {title}\n\nAbout {{queue}}.\n\n```console\n$ perdure queue show {{queue}}\n```\n"
        for title in Section
    )
    book = parse_runbook(filled(text, one, HOSTILE))
    for line in book.commands():
        assert shlex.split(line)[:3] == ["perdure", "queue", "show"]
        assert len(shlex.split(line)) == 4
    assert parse_runbook(filled(text, one, "")).commands()[0] == "perdure queue show QUEUE"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "## What it means\n",
        "# X\n\n## Mend\n\ntext\n",
        "# X\n" + "".join(f"\n## {title}\n\n" for title in Section),
        "# X\n" + "".join(f"\n## {title}\n\n```console\n$ perdure status\n" for title in Section),
        "# X\n" + "".join(f"\n## {title}\n\n```console\nperdure status\n```\n" for title in Section),
    ],
    ids=["nothing", "no name", "parts missing", "empty parts", "open block", "no prompt"],
)
def test_a_runbook_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line|sections|section|block"):
        parse_runbook(text)
