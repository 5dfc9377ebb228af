"""Metrics: what has happened and how things stand, once for the whole, with bounded labels."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
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


async def test_counters_count_each_attempt_once_over_many_scrapes(system: System) -> None:
    from perdure.services.activity import Activity
    from perdure.stores.postgres.activity import PostgresActivity

    for _ in range(4):
        await system.add()
        await system.run()
    await system.dead(kind="app.other")
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
    (waits,) = [one for one in metrics._histograms() if one.name == "perdure_queue_wait_seconds"]
    totals = {
        sample.labels["queue"]: sample.value for sample in waits.samples if sample.name.endswith("_count")
    }
    assert totals == {"default": 5}


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
    waits, runs = metrics._histograms()
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in waits.samples}
    assert found["perdure_queue_wait_seconds_bucket", str(BUCKETS[0])] == 2
    assert found["perdure_queue_wait_seconds_bucket", str(BUCKETS[3])] == 4
    assert found["perdure_queue_wait_seconds_bucket", "+Inf"] == 6
    assert found["perdure_queue_wait_seconds_sum", None] == 9
    assert runs.samples == []


def test_labels_stay_few() -> None:
    label = Labels(most=2)
    assert [label(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]
