"""Alerts in the web face: the page, the API, who may silence, and rules that name only what `/metrics` gives."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure.domain.alerts import RULES, Facts, QueueFacts, Step, advance
from perdure.runtime.wiring import Stores, connected
from perdure.services.alerts import trial
from perdure.stores.postgres.alerts import PostgresAlerts
from perdure.surfaces.export.grafana import BOARDS
from perdure.surfaces.web.live import Recent
from perdure.surfaces.web.metrics import Metrics
from tests.support.system import System
from tests.support.troubles import BRIEF_LIVES, MODEL_IN_FORCE, OVERDUE_SNAPSHOT, REFUSED_RESTORE
from tests.support.waiting import eventually
from tests.support.web import as_role, web_settings

API = "/api/v1"
HOSTILE = '<script>alert("q")</script>\u202e'
SILENCE = {"rule": "PerdureNoWorkers", "lasts": "2h", "reason": "deploy", "target": HOSTILE}


async def fire(system: System) -> None:
    """An alert about a queue with a hostile name."""
    facts = Facts(queues=(QueueFacts(name=HOSTILE, available=3),))
    now = datetime.now(UTC)
    first = advance((), facts, RULES, now - timedelta(minutes=3))
    await PostgresAlerts(system.database).keep(advance(first.alerts, facts, RULES, now), {})


async def test_the_page_shows_what_fires_as_text(web: httpx.AsyncClient, system: System) -> None:
    assert "nothing fires" in (await web.get("/alerts")).text
    await fire(system)
    found = (await web.get(f"{API}/alerts")).json()
    assert {alert["rule"]: alert["state"] for alert in found["alerts"]}["PerdureNoWorkers"] == "firing"
    assert "<script>alert" not in (await web.get("/alerts")).text


async def test_runbooks_are_shown_with_the_values_of_what_fires(
    web: httpx.AsyncClient, system: System
) -> None:
    await fire(system)
    (alert,) = [
        a for a in (await web.get(f"{API}/alerts")).json()["alerts"] if a["rule"] == "PerdureNoWorkers"
    ]
    for path in ("/runbooks", "/alerts"):
        assert "/runbooks/PerdureNoWorkers?target=%3Cscript" in (await web.get(path)).text
    page = await web.get(alert["runbook"])
    assert page.status_code == 200
    assert "&#39;&lt;script&gt;alert" in page.text
    assert "<script>alert" not in page.text
    assert "U+202E" in page.text
    told = await web.get(f"{API}/alerts/rules/PerdureNoWorkers/runbook", params={"target": "media"})
    assert "$ perdure queue show media" in told.json()["markdown"]
    for path in ("/runbooks/Nonsense", f"{API}/alerts/rules/Nonsense/runbook"):
        assert (await web.get(path)).status_code == 404


async def test_a_silence_is_made_shown_and_ended(web: httpx.AsyncClient, system: System) -> None:
    await fire(system)
    made = await web.post(f"{API}/alerts/silence", json=SILENCE)
    assert made.status_code == 200, made.text
    page = (await web.get(f"{API}/alerts")).json()
    assert [one["reason"] for one in page["silences"]] == ["deploy"]
    assert next(a for a in page["alerts"] if a["rule"] == "PerdureNoWorkers")["silenced_until"]
    ended = await web.post(f"{API}/alerts/unsilence", json={"id": made.json()["id"]})
    assert ended.status_code == 200
    assert (await web.post(f"{API}/alerts/unsilence", json={"id": made.json()["id"]})).status_code == 404
    assert (await web.get(f"{API}/alerts")).json()["silences"] == []


async def test_a_silence_is_made_and_ended_by_form(web: httpx.AsyncClient, system: System) -> None:
    refused = await web.post("/alerts/silence", data={"rule": "*", "lasts": "1h", "reason": ""})
    assert refused.status_code == 400
    assert "say why" in refused.text
    made = await web.post("/alerts/silence", data={"rule": "*", "lasts": "1h", "reason": "works"})
    assert made.status_code == 303
    silence_id = await system.sql.fetchval("SELECT id FROM perdure.alert_silences")
    assert str(silence_id) in (await web.get("/alerts")).text
    assert (await web.post("/alerts/unsilence", data={"id": str(silence_id)})).status_code == 303
    assert (await web.post("/alerts/unsilence", data={"id": "x"})).status_code == 400


@pytest.mark.parametrize("path", ["/alerts/silence", f"{API}/alerts/silence", f"{API}/alerts/unsilence"])
async def test_a_viewer_may_look_and_not_silence(guarded: httpx.AsyncClient, path: str) -> None:
    assert (await guarded.get("/alerts", headers=as_role("viewer"))).status_code == 200
    body = {"data": SILENCE} if path == "/alerts/silence" else {"json": SILENCE}
    answer = await guarded.post(path, headers=as_role("viewer"), **body)  # type: ignore[arg-type] # one of two forms
    assert answer.status_code == 403


async def test_the_rules_are_told(web: httpx.AsyncClient) -> None:
    told = (await web.get(f"{API}/alerts/rules")).json()
    assert [(rule["name"], rule["promql"]) for rule in told] == [(rule.name, rule.promql) for rule in RULES]


async def test_rules_and_dashboards_name_only_metrics_labels_and_values_that_are_exported(
    system: System, database_url: str
) -> None:
    exported = samples_of(await everything_exported(system, database_url))
    queries = [(rule.promql, [rule.label] if rule.label else []) for rule in RULES]
    for _, panels in BOARDS.values():
        for panel in panels:
            queries += [(query, re.findall(r"{{(\w+)}}", legend)) for legend, query in panel.queries.items()]
    assert len(queries) > 50
    for query, shown in queries:
        assert unknown_of(query, shown, exported) == [], query


Exported = Mapping[str, Mapping[str, set[str]]]
"""The values of each label of each metric."""


SOON_OR_NOT_AT_ALL = ("perdure_prediction_calibration_error", "perdure_embedding_backlog")
"""A busy machine may not find these out in time; they are told the next time that somebody asks."""


async def everything_exported(system: System, database_url: str) -> str:
    """What `/metrics` gives once there is a sample of everything."""
    await system.add()
    await system.run()
    await system.dead()
    await system.add(queue="other")
    for table, column in (("job_executions", "settled_at"), ("jobs", "enqueued_at"), ("job_events", "at")):
        await system.sql.execute(f"UPDATE perdure.{table} SET {column} = {column} - interval '10 seconds'")
    alerts = PostgresAlerts(system.database)
    await alerts.keep(Step(alerts=(), forgotten=(), fired=(), resolved=()), {"slack": [trial()]})
    await system.sql.execute("UPDATE perdure.alert_messages SET tries = 2, error = 'refused'")
    await system.sql.execute("INSERT INTO perdure.known_errors VALUES ('fp', now(), now(), 12)")
    for statement in (BRIEF_LIVES, REFUSED_RESTORE, OVERDUE_SNAPSHOT):
        await system.sql.execute(statement)
    await system.sql.execute(MODEL_IN_FORCE, 0.3)
    nowhere = {"redis_url": "redis://127.0.0.1:1/0", "qdrant_url": "http://127.0.0.1:1"}
    async with connected(web_settings(database_url, **nowhere), redis=False) as stores:

        async def opened() -> Stores:
            return stores

        counting = Metrics(datetime.now(UTC) - timedelta(minutes=9))

        async def whole() -> str:
            told = (await counting.text(opened, Recent())).decode()
            return told if all(name in told for name in SOON_OR_NOT_AT_ALL) else ""

        return await eventually(whole)


def samples_of(text: str) -> Exported:
    exported: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = exported.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return exported


def unknown_of(query: str, shown: Sequence[str], exported: Exported) -> list[str]:
    """What a query names and nobody exports; `shown` are labels that its result must have."""
    grouped = {
        one for part in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for one in part.split(", ") if one
    }
    unknown = []
    if re.search(r"\bsum\b", query):
        unknown += [f"{label} is summed away" for label in shown if label not in grouped]
    for name, selector in re.findall(r"(perdure_\w+)(?:{([^}]*)})?", query):
        labels = exported.get(name)
        if labels is None:
            unknown.append(name)
            continue
        wanted = set() if f"on () {name}" in query else {*grouped, *shown}
        unknown += [f"{name}: {label}" for label in wanted if label not in labels]
        for label, sign, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
            pattern = value if "~" in sign else re.escape(value)
            known = [one for one in labels.get(label, ()) if re.fullmatch(pattern, one)]
            if label not in labels or (sign.startswith("=") and not known):
                unknown.append(f"{name}: {label}{sign}{value}")
    return unknown


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("perdure_nothing > 0", []),
        ("sum by (kind) (perdure_queue_workers)", []),
        ("sum(perdure_queue_workers)", ["queue"]),
        ("perdure_queue_workers", ["kind"]),
        ('perdure_jobs{state="nonsense"}', []),
        ('perdure_jobs{status=~"available"}', []),
        ('perdure_jobs{state=~"nonsense"}', []),
    ],
)
def test_what_is_not_exported_is_found(query: str, shown: list[str]) -> None:
    exported = {"perdure_queue_workers": {"queue": {"q"}}, "perdure_jobs": {"state": {"available"}}}
    assert unknown_of(query, shown, exported)
