"""Four dashboards for Grafana, as the JSON that it imports."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

TEXT = (
    "Made by `perdure export`. Its queries are checked against what `/metrics` exports; the JSON has not been loaded "
    "into a Grafana by the tests of Perdure."
)
WIDTH, HEIGHT, COLUMNS = 12, 8, 2
FAILED = 'result=~"failed|timed_out|crashed"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart: `queries` by their legends; `unit` is Grafana's name of it."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"


def _quantile(histogram: str, part: float) -> str:
    return f"histogram_quantile({part:g}, sum by (le) (rate({histogram}_bucket[5m])))"


BOARDS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "overview": (
        "Perdure: overview",
        (
            Panel(
                title="Jobs a second",
                queries={
                    "enqueued": "sum(rate(perdure_jobs_enqueued_total[5m]))",
                    "finished": "sum(rate(perdure_jobs_finished_total[5m]))",
                    "failed attempts": f"sum(rate(perdure_attempts_total{{{FAILED}}}[5m]))",
                },
                unit="ops",
            ),
            Panel(title="Alerts that fire", queries={"{{alert}}": "perdure_alerts_firing > 0"}),
            Panel(
                title="From available to claimed",
                queries={
                    "p50": _quantile("perdure_queue_wait_seconds", 0.5),
                    "p95": _quantile("perdure_queue_wait_seconds", 0.95),
                },
                unit="s",
            ),
            Panel(
                title="Started within a minute",
                queries={
                    "share": 'sum(increase(perdure_queue_wait_seconds_bucket{le="60.0"}[1h])) / '
                    "sum(increase(perdure_queue_wait_seconds_count[1h]))"
                },
                unit="percentunit",
            ),
            Panel(title="Jobs by state", queries={"{{state}}": "perdure_jobs"}),
            Panel(title="Dead letters", queries={"{{queue}}": "perdure_dlq_depth"}),
        ),
    ),
    "queues": (
        "Perdure: queues",
        (
            Panel(title="Waiting", queries={"{{queue}}": 'perdure_queue_depth{state="available"}'}),
            Panel(title="Longest wait", queries={"{{queue}}": "perdure_queue_oldest_seconds"}, unit="s"),
            Panel(
                title="Enqueued a second",
                queries={"{{queue}}": "sum by (queue) (rate(perdure_jobs_enqueued_total[5m]))"},
                unit="ops",
            ),
            Panel(
                title="Finished a second",
                queries={"{{queue}}": "sum by (queue) (rate(perdure_jobs_finished_total[5m]))"},
                unit="ops",
            ),
            Panel(title="Workers", queries={"{{queue}}": "perdure_queue_workers"}),
            Panel(title="Paused", queries={"{{queue}}": "perdure_queue_paused"}),
        ),
    ),
    "workers": (
        "Perdure: workers",
        (
            Panel(title="Workers", queries={"{{state}}": "perdure_workers", "lost": "perdure_workers_lost"}),
            Panel(title="Slots", queries={"{{state}}": "perdure_worker_slots"}),
            Panel(
                title="Longest silence",
                queries={"seconds": "perdure_worker_heartbeat_age_seconds"},
                unit="s",
            ),
            Panel(
                title="Run time",
                queries={
                    "p50": _quantile("perdure_run_seconds", 0.5),
                    "p95": _quantile("perdure_run_seconds", 0.95),
                },
                unit="s",
            ),
            Panel(
                title="Results refused",
                queries={"refused": "increase(perdure_stale_writes_refused_total[10m])"},
            ),
            Panel(
                title="Overdue and unserved jobs",
                queries={"overdue": "perdure_jobs_overdue", "unserved": "perdure_jobs_unserved"},
            ),
        ),
    ),
    "stores": (
        "Perdure: stores",
        (
            Panel(title="Stores that answer", queries={"{{store}}": "perdure_store_up"}),
            Panel(title="Leaders", queries={"leaders": "perdure_leader"}),
            Panel(
                title="Connections",
                queries={
                    "in use": "perdure_database_connections",
                    "allowed": "perdure_database_connections_max",
                },
            ),
            Panel(
                title="Oldest transaction", queries={"age": "perdure_oldest_transaction_seconds"}, unit="s"
            ),
            Panel(title="Dead rows", queries={"{{table}}": "perdure_table_dead_tuples"}),
            Panel(title="Live rows", queries={"{{table}}": "perdure_table_live_tuples"}),
        ),
    ),
}


def dashboards() -> Mapping[str, Callable[[], str]]:
    """What makes the JSON of each dashboard."""
    return {name: partial(dashboard, name) for name in BOARDS}


def dashboard(name: str) -> str:
    """One dashboard; the data source is asked for when it is imported."""
    title, panels = BOARDS[name]
    source = {"type": "prometheus", "uid": "${datasource}"}
    document = {
        "uid": f"perdure-{name}",
        "title": title,
        "description": TEXT,
        "tags": ["perdure"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
            ]
        },
        "panels": [
            {
                "id": number + 1,
                "title": panel.title,
                "type": "timeseries",
                "datasource": source,
                "gridPos": {
                    "x": number % COLUMNS * WIDTH,
                    "y": number // COLUMNS * HEIGHT,
                    "w": WIDTH,
                    "h": HEIGHT,
                },
                "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
                "targets": [
                    {"refId": chr(ord("A") + at), "datasource": source, "expr": query, "legendFormat": legend}
                    for at, (legend, query) in enumerate(panel.queries.items())
                ],
            }
            for number, panel in enumerate(panels)
        ],
    }
    return json.dumps(document, indent=2) + "\n"
