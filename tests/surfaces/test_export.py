"""`perdure export`: Debian's own tools take the rules, each rule fires on its data, and manifests name what exists."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from perdure.domain.alerts import BY_NAME, RULES
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.export import EXPORTS
from perdure.surfaces.export.grafana import BOARDS
from tests.support.command import Command

Series = Mapping[str, tuple[tuple[tuple[str, str], ...], Mapping[str, str]]]

SERIES: Series = {
    "PerdureNoWorkers": (
        (
            ('perdure_queue_depth{queue="q",state="available"}', "5+0x40"),
            ('perdure_queue_workers{queue="q"}', "0+0x40"),
            ('perdure_queue_paused{queue="q"}', "0+0x40"),
            ('perdure_queue_depth{queue="paused",state="available"}', "5+0x40"),
            ('perdure_queue_workers{queue="paused"}', "0+0x40"),
            ('perdure_queue_paused{queue="paused"}', "1+0x40"),
        ),
        {"queue": "q"},
    ),
    "PerdureJobsUnserved": ((("perdure_jobs_unserved", "1+0x40"),), {}),
    "PerdureHeadOfLineStuck": (
        (
            ('perdure_queue_oldest_seconds{queue="q"}', "601+60x40"),
            ('perdure_queue_paused{queue="q"}', "0+0x40"),
        ),
        {"queue": "q"},
    ),
    "PerdureBacklogWillNotDrain": (
        (
            ('perdure_queue_depth{queue="deep",state="available"}', "500+10x40"),
            ('perdure_jobs_finished_total{queue="deep",kind="k",outcome="completed"}', "0+10x40"),
            ('perdure_jobs_enqueued_total{queue="deep",kind="k"}', "0+20x40"),
        ),
        {"queue": "deep"},
    ),
    "PerdureQueueSaturated": (
        (
            ('perdure_worker_slots{state="busy"}', "95+0x40"),
            ('perdure_worker_slots{state="free"}', "5+0x40"),
            ('perdure_queue_depth{queue="q",state="available"}', "5+0x40"),
        ),
        {},
    ),
    "PerdureErrorRatioHigh": (
        (
            ('perdure_attempts_total{queue="q",kind="k",result="failed"}', "0+1x40"),
            ('perdure_attempts_total{queue="q",kind="k",result="completed"}', "0+9x40"),
            ('perdure_attempts_total{queue="q",kind="well",result="failed"}', "0+1x40"),
            ('perdure_attempts_total{queue="q",kind="well",result="completed"}', "0+99x40"),
        ),
        {"kind": "k"},
    ),
    "PerdureErrorRatioExtreme": (
        (
            ('perdure_attempts_total{queue="q",kind="bad",result="failed"}', "0+6x40"),
            ('perdure_attempts_total{queue="q",kind="bad",result="completed"}', "0+4x40"),
        ),
        {"kind": "bad"},
    ),
    "PerdureRetryRateHigh": (
        (
            ('perdure_attempts_total{queue="q",kind="again",result="failed"}', "0+10x40"),
            ('perdure_attempts_total{queue="q",kind="again",result="completed"}', "0+90x40"),
        ),
        {},
    ),
    "PerdureRetryStorm": (
        (
            ('perdure_attempts_total{queue="q",kind="storm",result="failed"}', "0+40x40"),
            ('perdure_jobs_finished_total{queue="q",kind="again",outcome="completed"}', "0+10x40"),
        ),
        {},
    ),
    "PerdureQueueWaitBurnFast": (
        (
            ('perdure_queue_wait_seconds_bucket{queue="q",le="60.0"}', "0+1x40"),
            ('perdure_queue_wait_seconds_count{queue="q"}', "0+10x40"),
        ),
        {},
    ),
    "PerdureDeadLettersMany": ((("perdure_dead_letters", "101+0x40"),), {}),
    "PerdureDeadLettersGrowing": ((('perdure_dlq_added_total{queue="q",kind="k"}', "0+1x40"),), {}),
    "PerdureDeadLetterFlood": ((('perdure_dlq_added_total{queue="q",kind="k"}', "0+20x40"),), {}),
    "PerdureWorkerSilent": ((("perdure_worker_heartbeat_age_seconds", "31+0x40"),), {}),
    "PerdureWorkerFailureRate": (
        (("perdure_workers_lost", "2+0x40"), ('perdure_workers{state="active"}', "8+0x40")),
        {},
    ),
    "PerdureEvacuationStuck": ((("perdure_evacuation_late_seconds", "61+60x40"),), {}),
    "PerdureStaleWritesRefused": ((("perdure_stale_writes_refused_total", "0+1x40"),), {}),
    "PerdureJobsOverdue": ((("perdure_jobs_overdue", "1+0x40"),), {}),
    "PerdureNoLeader": ((("perdure_leader", "0+0x40"),), {}),
    "PerdurePostgresDown": ((('perdure_store_up{store="postgresql"}', "0+0x40"),), {"store": "postgresql"}),
    "PerdureConnectionsExhausted": (
        (("perdure_database_connections", "81+0x40"), ("perdure_database_connections_max", "100+0x40")),
        {},
    ),
    "PerdureLongTransaction": ((("perdure_oldest_transaction_seconds", "901+60x40"),), {}),
    "PerdureTableBloat": (
        (
            ('perdure_table_dead_tuples{table="leases"}', "60001+0x40"),
            ('perdure_table_live_tuples{table="leases"}', "30000+0x40"),
        ),
        {"table": "leases"},
    ),
    "PerdureSnapshotOverdue": ((("perdure_snapshot_late_seconds", "601+60x40"),), {}),
    "PerdureWorkersDeaf": ((("perdure_workers_deaf", "1+0x40"),), {}),
    "PerdureSnapshotUnverified": ((("perdure_snapshot_verified_age_seconds", "604801+60x40"),), {}),
    "PerdureRestoreFailed": ((("perdure_restores_failed", "1+0x40"),), {}),
    "PerdureNewErrorFingerprint": (
        (
            ('perdure_new_errors{fingerprint="fp"}', "10+0x40"),
            ('perdure_new_errors{fingerprint="seldom"}', "9+0x40"),
        ),
        {"fingerprint": "fp"},
    ),
    "PerdureWorkerFlapping": (
        (
            ('perdure_workers_short_lived{host="h"}', "4+0x40"),
            ('perdure_workers_short_lived{host="fine"}', "3+0x40"),
        ),
        {"host": "h"},
    ),
    "PerdureWorkerFailureLikely": (
        (
            ('perdure_worker_failure_probability{worker="w",horizon="5m"}', "0.81+0x40"),
            ('perdure_worker_failure_probability{worker="well",horizon="5m"}', "0.8+0x40"),
            ("perdure_prediction_calibration_error", "0.15+0x40"),
        ),
        {"worker": "w"},
    ),
    "PerdureRedisDown": ((('perdure_store_up{store="redis"}', "0+0x40"),), {"store": "redis"}),
    "PerdureQdrantDown": ((('perdure_store_up{store="qdrant"}', "0+0x40"),), {"store": "qdrant"}),
    "PerdureEmbeddingBacklog": ((("perdure_embedding_backlog", "10001+0x40"),), {}),
    "PerdureNotifierFailing": (
        (('perdure_notifier_failing{channel="slack"}', "1+0x40"),),
        {"channel": "slack"},
    ),
    "PerdureMetricsAbsent": ((), {}),
    "PerdureWatchdog": ((), {}),
}
"""For each rule series by the minute that make it fire within half an hour, and labels that the alert has."""
APART: Series = {"PerdureModelMiscalibrated": ((("perdure_prediction_calibration_error", "0.16+0x40"),), {})}
"""What cannot be so while another rule fires."""
ONE = [{"labels": "{}", "value": 1}]


def tool(name: str) -> str:
    """A tool of Debian's packages; in CI it must be there."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not there; .ci/run installs it")
        pytest.skip(f"{name} is not there")
    return found


def run(*words: str) -> str:
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_prometheus_takes_every_rule_and_each_fires_on_its_data(tmp_path: Path) -> None:
    """Series stand side by side, for each says enough of its own; the whole is judged once, for speed."""
    promtool = tool("promtool")
    rules = EXPORTS["prometheus-rules"]()
    (tmp_path / "rules.yml").write_text(rules)
    assert f"{len(RULES)} rules found" in run(promtool, "check", "rules", str(tmp_path / "rules.yml"))
    (tmp_path / "judged.yml").write_text(rules.replace("interval: 15s", "interval: 1m"))
    quiet = [
        {"expr": f'count(ALERTS{{{one},alertstate="firing"}})', "eval_time": "30m", "exp_samples": []}
        for one in ('kind="well"', 'alertname="PerdureNoWorkers",queue="paused"')
    ]
    document = {
        "rule_files": ["judged.yml"],
        "evaluation_interval": "1m",
        "tests": [judged(SERIES, quiet), judged(APART)],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(document))
    run(promtool, "test", "rules", str(tmp_path / "tests.yml"))


def judged(series: Series, more: Sequence[Mapping[str, object]] = ()) -> Mapping[str, object]:
    """A test of promtool: after half an hour each of these alerts fires."""
    given = {one: values for some, _ in series.values() for one, values in some}
    expected = [
        {"expr": f"count(ALERTS{selector(name, labels)})", "eval_time": "30m", "exp_samples": ONE}
        for name, (_, labels) in series.items()
    ]
    return {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in given.items()],
        "promql_expr_test": [*expected, *more],
    }


def test_rules_link_to_runbooks_where_the_settings_say(bare: Command) -> None:
    ended = bare("export", "prometheus-rules")
    assert (
        '"http://127.0.0.1:7337/runbooks/PerdureNoWorkers?target={{ $labels.queue | urlquery }}"' in ended.out
    )
    assert ended.out.count("runbook_url: ") == len(RULES)
    here = bare.with_variables(PERDURE_ALERT_DASHBOARD="https://p.example/ops")
    assert '"https://p.example/ops/runbooks/PerdureWatchdog"' in here("export", "prometheus-rules").out
    own = here.with_variables(PERDURE_ALERT_RUNBOOKS="https://wiki.example")
    assert '"https://wiki.example/PerdureNoWorkers"' in own("export", "prometheus-rules").out


def selector(name: str, labels: Mapping[str, str]) -> str:
    """What selects the alert while it fires."""
    every = {"alertname": name, "alertstate": "firing", **labels}
    return "{" + ",".join(f'{label}="{value}"' for label, value in every.items()) + "}"


def test_rules_without_a_test_of_their_own_need_longer_than_half_an_hour() -> None:
    assert {rule.name for rule in RULES} - SERIES.keys() - APART.keys() == {
        "PerdureFlowBlocked",
        "PerdureQueueWaitBurnSlow",
        "PerdureDeadLetterStale",
        "PerdureQueuePausedTooLong",
    }


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=PerdureNoWorkers", "severity=page"], "pages"),
        (["alertname=PerdureRetryStorm", "severity=ticket"], "tickets"),
        (["alertname=PerdureDeadLetterStale", "severity=info"], "nobody"),
        (["alertname=PerdureWatchdog", "severity=info"], "watchdog"),
    ],
)
def test_alertmanager_sends_each_severity_where_it_belongs(
    tmp_path: Path, labels: list[str], receiver: str
) -> None:
    amtool = tool("amtool")
    config = tmp_path / "alertmanager.yml"
    config.write_text(EXPORTS["alertmanager"]())
    run(amtool, "check-config", str(config))
    told = run(amtool, "config", "routes", "test", f"--config.file={config}", *labels)
    assert told.strip() == receiver
    assert dict(each.split("=") for each in labels)["alertname"] in BY_NAME


@pytest.mark.parametrize("what", list(EXPORTS))
def test_everything_is_printed_and_says_what_was_run(bare: Command, what: str) -> None:
    ended = bare("export", what)
    assert ended.code == Exit.DONE
    assert re.search(r"not run|not built|not been loaded", ended.out)


def test_what_is_not_there_is_refused_with_what_is(bare: Command) -> None:
    ended = bare("export", "nonsense")
    assert (ended.code, "prometheus-rules" in ended.err) == (Exit.USAGE, True)


def test_dashboards_are_what_grafana_imports() -> None:
    for name in BOARDS:
        document = json.loads(EXPORTS[f"grafana-{name}"]())
        assert document["schemaVersion"] >= 39
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in document["panels"]]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize("what", ["systemd", "systemd-serve", "dockerfile", "compose", "kubernetes"])
def test_commands_in_manifests_are_commands(bare: Command, what: str) -> None:
    text = EXPORTS[what]()
    found = [*re.findall(r"ExecStart=\S+/perdure (.+)", text)]
    found += [words.replace(",", "") for words in re.findall(r"(?:args|command): \[(.+)\]", text)]
    found += [words.replace('"', "").replace(",", "") for words in re.findall(r"CMD \[(.+)\]", text)]
    assert found
    for line in found:
        words = [word for word in line.split() if word != "app.py"]
        assert bare(*words, "--help").code == Exit.DONE


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not there")
    for what in ("systemd", "systemd-serve"):
        unit = tmp_path / f"{what}.service"
        unit.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", EXPORTS[what]()))
        run(verify, "verify", str(unit))
