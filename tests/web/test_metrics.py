"""Metrics: what has happened and how things stand, once for the whole, with bounded labels."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from perdure.domain.activity import BUCKETS, Metered, MeteredAttempts
from perdure.surfaces.web.metrics import OTHER, Labels, Metrics
from tests.support.system import System


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels; the text must be what Prometheus reads."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def test_gauges_tell_how_things_stand(web: httpx.AsyncClient, system: System) -> None:
    await system.add_many(3)
    await system.dead()
    await system.act.pause("default", actor="ada")
    found = samples((await web.get("/metrics")).text)
    assert (
        value(found, "perdure_queue_depth", queue="default", state="available")
        + value(found, "perdure_queue_depth", queue="default", state="running")
        == 3
    )
    assert value(found, "perdure_dlq_depth", queue="default") == 1
    assert value(found, "perdure_queue_paused", queue="default") == 1
    assert value(found, "perdure_workers", state="active") >= 1
    assert value(found, "perdure_store_up", store="postgresql") == 1
    assert value(found, "perdure_leader") == 0
    assert any(name == "perdure_build_info" for name, _ in found)


async def test_workers_tell_how_well_they_are_and_held_jobs_are_counted(
    web: httpx.AsyncClient, system: System
) -> None:
    await system.worker("w1")
    await system.worker("w1")
    dead = await system.dead()
    await system.add(after=[dead])
    await system.sql.execute(
        "UPDATE perdure.workers SET health_scores = '{0.4}' WHERE name = 'w1' AND id = (SELECT max(id::text)::uuid FROM perdure.workers WHERE name = 'w1')"
    )
    await system.sql.execute(
        "INSERT INTO perdure.snapshot_policy (every, keep, set_by, newest_at) VALUES ('1 hour', 3, 'ada', now() - interval '90 s')"
    )
    found = samples((await web.get("/metrics")).text)
    assert value(found, "perdure_worker_health_score", worker="w1") == pytest.approx(0.4)
    assert 0 <= value(found, "perdure_worker_failure_probability", worker="w1", horizon="5m") < 1
    assert value(found, "perdure_flow_blocked", reason="dead_parent") == 1
    assert 90 <= value(found, "perdure_snapshot_age_seconds") < 120


async def test_counters_count_each_attempt_once_over_many_scrapes(system: System) -> None:
    from perdure.services.activity import Activity
    from perdure.stores.postgres.activity import PostgresActivity

    for _ in range(4):
        await system.add()
        await system.run()
    await system.dead(kind="app.other")
    await system.sql.execute(
        "INSERT INTO perdure.alert_messages (id, channel, body, tries, delivered_at) VALUES (gen_random_uuid(), 'slack', '{}', 3, now())"
    )
    await system.sql.execute(
        "INSERT INTO perdure.worker_samples (worker_id, running, finished, failed, timed_out, retried, crashed, claims, claim_ms)"
        " VALUES (gen_random_uuid(), 0, 0, 0, 0, 0, 0, 10, 70), (gen_random_uuid(), 0, 0, 0, 0, 0, 0, 0, 0)"
    )
    activity = Activity(PostgresActivity(system.database))
    metrics = Metrics()
    now = datetime.now(UTC) + timedelta(seconds=60)
    edges = [now - timedelta(minutes=9 - step * 3) for step in range(4)]
    for since, until in pairwise(edges):
        metrics._add(await activity.metered(since, until))
    kept = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in metrics._registry.collect()
        for sample in family.samples
    }
    assert kept["perdure_jobs_enqueued_total", "app.work", "default"] == 4
    assert kept["perdure_attempts_total", "app.work", "completed", "default"] == 4
    assert kept["perdure_jobs_finished_total", "app.other", "default", "discarded"] == 1
    assert kept["perdure_dlq_added_total", "app.other", "default"] == 1
    assert kept["perdure_notifications_total", "delivered", "slack"] == 1
    assert kept["perdure_notifications_total", "failed", "slack"] == 2
    (waits,) = [one for one in metrics._histograms() if one.name == "perdure_queue_wait_seconds"]
    totals = {
        sample.labels["queue"]: sample.value for sample in waits.samples if sample.name.endswith("_count")
    }
    assert totals == {"default": 5}
    (whole,) = [one for one in metrics._histograms() if one.name == "perdure_end_to_end_seconds"]
    ended = {
        sample.name[-6:]: sample.value for sample in whole.samples if sample.name[-6:] in {"_count", "ds_sum"}
    }
    assert ended["_count"] == 5
    (claims,) = [one for one in metrics._histograms() if one.name == "perdure_claim_seconds"]
    told = {(sample.name, sample.labels.get("le")): sample.value for sample in claims.samples}
    assert told["perdure_claim_seconds_bucket", "0.005"] == 0, "70 ms for ten are 7 ms for one"
    assert told["perdure_claim_seconds_bucket", "0.01"] == 10
    assert told["perdure_claim_seconds_sum", None] == pytest.approx(0.07)
    assert 0 < ended["ds_sum"] < 60


async def test_the_parts_beside_the_jobs_tell_how_they_stand(web: httpx.AsyncClient, system: System) -> None:
    deaf = await system.worker("w1", processes=3)
    await system.sql.execute("UPDATE perdure.workers SET deaf = 1 WHERE id = $1", deaf)
    gone = await system.worker("w2", processes=5)
    await system.sql.execute(
        "UPDATE perdure.workers SET deaf = 5, state = 'stopped', stopped_at = now() WHERE id = $1", gone
    )
    found = samples((await web.get("/metrics")).text)
    assert value(found, "perdure_dispatch_mode", mode="notify") == 2
    assert value(found, "perdure_dispatch_mode", mode="poll") == 1
    pool = [value(found, "perdure_db_pool", state=state) for state in ("busy", "idle")]
    assert sum(pool) >= 1
    named = {name for name, _ in found}
    assert "perdure_embedding_backlog" not in named, "there is no memory of executions here"
    assert "perdure_prediction_calibration_error" not in named, "and no trained model"


async def test_the_calibration_of_the_model_in_force_is_told(web: httpx.AsyncClient, system: System) -> None:
    await system.sql.execute(
        "INSERT INTO perdure.models (made_by, body, sha256, kind, trained_from, trained_to, moments, failures, facts)"
        """ VALUES ('ada', '', '', 'linear', now(), now(), 1, 1, '{"quality": {"error": 0.0125}}')"""
    )
    await system.sql.execute(
        "INSERT INTO perdure.model_posts (champion, champion_since) SELECT id, now() FROM perdure.models"
        " ON CONFLICT (only_one) DO UPDATE SET champion = excluded.champion, champion_since = now()"
    )
    found = samples((await web.get("/metrics")).text)
    assert value(found, "perdure_prediction_calibration_error") == 0.0125


def test_attempts_that_others_took_over_and_evacuations_are_counted() -> None:
    metrics = Metrics()
    plain = MeteredAttempts(
        queue="q",
        kind="k",
        outcome="completed",
        state="completed",
        wait_bucket=None,
        run_bucket=None,
        attempts=1,
        wait_s=0.0,
        run_s=0.0,
    )
    ways = (("crashed", "available", 3), ("interrupted", "available", 2), ("completed", "completed", 9))
    attempts = tuple(replace(plain, outcome=o, state=s, attempts=n) for o, s, n in ways)
    metrics._add(
        Metered(attempts=attempts, enqueued={}, events={"worker_evacuating": 2, "worker_evacuated": 1})
    )
    kept = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics._registry.collect()
        for sample in family.samples
    }
    rescued = {
        reason: kept.get(("perdure_jobs_rescued_total", reason))
        for reason in ("crashed", "interrupted", "completed")
    }
    assert rescued == {"crashed": 3, "interrupted": 2, "completed": None}
    assert (kept["perdure_evacuations_total", "begun"], kept["perdure_evacuations_total", "ended"]) == (2, 1)


def test_a_histogram_adds_up() -> None:
    metrics = Metrics()
    attempts = tuple(
        MeteredAttempts(
            queue="q",
            kind="k",
            outcome="completed",
            state="completed",
            wait_bucket=bucket,
            run_bucket=None,
            attempts=2,
            wait_s=3.0,
            run_s=0.0,
        )
        for bucket in (0, 3, len(BUCKETS))
    )
    metrics._add(Metered(attempts=attempts, enqueued={}, events={"result_refused": 2}))
    waits, runs, *_ = metrics._histograms()
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in waits.samples}
    assert found["perdure_queue_wait_seconds_bucket", str(BUCKETS[0])] == 2
    assert found["perdure_queue_wait_seconds_bucket", str(BUCKETS[3])] == 4
    assert found["perdure_queue_wait_seconds_bucket", "+Inf"] == 6
    assert found["perdure_queue_wait_seconds_sum", None] == 9
    assert runs.samples == []


def test_labels_stay_few() -> None:
    label = Labels(most=2)
    assert [label(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]
