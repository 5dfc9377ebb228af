"""What threatens the database: named with its owner, and nothing when nothing does."""

from datetime import UTC, datetime

import asyncpg
import httpx
import pytest

from perdure.domain import pressure
from perdure.stores.postgres.pressure import PostgresPressure
from tests.support.system import System


async def test_the_page_tells_when_nothing_threatens(web: httpx.AsyncClient) -> None:
    page = (await web.get("/database")).text
    assert "Nothing threatens the database." in page
    assert "available_jobs" in page


async def test_an_open_transaction_is_named_with_its_owner(
    web: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "OPEN_LONG_S", -1.0)
    forgotten = await asyncpg.connect(database_url, server_settings={"application_name": "<b>report"})
    await forgotten.execute("BEGIN")
    pid = forgotten.get_server_pid()
    try:
        page = (await web.get("/database")).text
        assert (
            "A transaction of postgres has been open for 0 s (&lt;b&gt;report, idle in transaction)" in page
        )
        told = (await web.get("/api/v1/database")).json()
        assert {one["pid"]: one["application"] for one in told["transactions"]}[pid] == "<b>report"
    finally:
        await forgotten.close()


async def test_wal_is_told_for_each_attempt_once_enough_have_ended(system: System) -> None:
    watch = PostgresPressure(system.database)
    first = await watch.read()
    assert (first.wal_per_attempt, first.watched_s) == (None, 0.0)
    await system.add_many(30)
    for _ in range(30):
        await system.run()
    second = await watch.read()
    assert second.wal_per_attempt is not None
    assert second.wal_per_attempt > 100
    assert second.watched_s > 0


def test_rows_and_connections_are_told_by_the_limits_of_their_alerts() -> None:
    bloated = pressure.TableRows(name="leases", live=10, dead=60_000, vacuumed_at=None)
    large = pressure.TableRows(name="available_jobs", live=900_000, dead=60_000, vacuumed_at=None)
    full = pressure.Pressure(
        at=datetime.now(UTC),
        transactions=(),
        tables=(bloated, large),
        connections=81,
        connections_max=100,
        wal_per_attempt=None,
        watched_s=0.0,
    )
    told = pressure.threats(full)
    assert [one.split()[1] for one in told] == ["leases", "of"]
    assert "81 of 100 connections" in told[1]
