"""Gauges of how the parts stand: what the rules of alerts need beside the others, which alerts fire, and how well each worker is."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from prometheus_client.core import GaugeMetricFamily, Metric

from perdure.domain.alerts import BY_NAME
from perdure.domain.prediction import HORIZON
from perdure.domain.views import StatusView
from perdure.services.foresee import Outlook
from perdure.stores.postgres.alerts import Vitals

Samples = Iterable[tuple[Sequence[str], float]]


def of_vitals(vitals: Vitals, status: StatusView) -> Iterable[Metric]:
    """The gauges, each with its samples."""
    unserved = sum(each.jobs for each in status.unserved or ())
    for name, text, value in (
        ("perdure_dlq_oldest_seconds", "Age of the oldest dead letter.", vitals.oldest_letter_s),
        ("perdure_jobs_overdue", "Jobs that run though their deadline has passed.", vitals.overdue),
        ("perdure_jobs_unserved", "Jobs that wait and that no active worker may take.", unserved),
        ("perdure_workers_lost", "Workers declared dead in the last 15 minutes.", vitals.workers_lost),
        ("perdure_workers_deaf", "Workers that hear no notifications.", status.workers_deaf or 0),
        (
            "perdure_evacuation_late_seconds",
            "How long ago an evacuation should have ended.",
            vitals.evacuation_late_s,
        ),
        (
            "perdure_snapshot_late_seconds",
            "How long ago an automatic snapshot should have begun that is whole.",
            vitals.snapshot_late_s,
        ),
        (
            "perdure_restores_failed",
            "Restores that broke off, or were refused within the last hour.",
            vitals.restores_failed,
        ),
        ("perdure_database_connections", "Connections of clients to PostgreSQL.", vitals.connections),
        (
            "perdure_database_connections_max",
            "Connections that PostgreSQL allows to clients.",
            vitals.connections_max,
        ),
    ):
        yield _gauge(name, text, "", [((), value)])
    if vitals.snapshot_age_s is not None:
        text = "Age of the newest automatic snapshot."
        yield _gauge("perdure_snapshot_age_seconds", text, "", [((), vitals.snapshot_age_s)])
    if vitals.snapshot_verified_age_s is not None:
        text = "How long no snapshot has been read again and found sound."
        yield _gauge(
            "perdure_snapshot_verified_age_seconds", text, "", [((), vitals.snapshot_verified_age_s)]
        )
    errors = [((name,), float(times)) for name, times in vitals.new_errors]
    text = "Errors that first came within the last hour, by how often they came in their first ten minutes."
    yield _gauge("perdure_new_errors", text, "fingerprint", errors)
    lives = [((host,), float(workers)) for host, workers in vitals.short_lives]
    text = "Workers of a host that were declared dead in the last 15 minutes and had lived less than five."
    yield _gauge("perdure_workers_short_lived", text, "host", lives)
    held = [(("dead_parent",), float(vitals.held))]
    yield _gauge("perdure_flow_blocked", "Jobs that wait for what will not come by itself.", "reason", held)
    tables = vitals.tables
    yield _gauge(
        "perdure_table_dead_tuples", "Dead rows.", "table", [((one.name,), one.dead) for one in tables]
    )
    yield _gauge(
        "perdure_table_live_tuples", "Live rows.", "table", [((one.name,), one.live) for one in tables]
    )
    failing = [((channel,), 1.0) for channel in vitals.failing_channels]
    yield _gauge("perdure_notifier_failing", "Channels that messages do not get through.", "channel", failing)
    firing = [((name,), float(vitals.firing.get(name, 0))) for name in BY_NAME]
    yield _gauge("perdure_alerts_firing", "Built-in alerts that fire.", "alert", firing)


def of_outlooks(outlooks: Sequence[Outlook], named: Callable[[str], str]) -> Iterable[Metric]:
    """How well each living worker is, and how likely it fails; of workers that share a name the worst.

    Names come and go with every restart, so `named` must be new for each reading: it bounds those of one, the riskiest first.
    """
    health: dict[str, float] = {}
    risk: dict[str, float] = {}
    for one in outlooks:
        name = named(one.vitals.worker.name)
        health[name] = min(health.get(name, 1.0), one.vitals.health)
        risk[name] = max(risk.get(name, 0.0), one.prediction.probability)
    text = "How well a worker is, from 0 to 1."
    yield _gauge("perdure_worker_health_score", text, "worker", [((n,), v) for n, v in health.items()])
    family = GaugeMetricFamily(
        "perdure_worker_failure_probability",
        "How likely a worker fails within the horizon.",
        labels=["worker", "horizon"],
    )
    for name, value in risk.items():
        family.add_metric([name, f"{HORIZON // timedelta(minutes=1)}m"], value)
    yield family


def _gauge(name: str, text: str, label: str, samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label] if label else [])
    for values, value in samples:
        family.add_metric(list(values), value)
    return family
