"""What leaders know of PostgreSQL from the election, and who tells of it when it is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from perdure.domain.alerts import Step
from perdure.domain.errors import DatabaseUnavailable, SchemaMissing
from perdure.domain.liveness import Sight
from perdure.domain.worker import WorkerId
from perdure.runtime.alerting import DOWN
from perdure.runtime.duties import Duties
from perdure.runtime.process_wiring import SupervisorStores, supervisor_stores
from perdure.runtime.saving import policy_of, snapshots_of
from perdure.runtime.settings import Settings
from perdure.services.alerts import trial
from perdure.stores.postgres.archive import PostgresPolicy
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.leadership import PostgresLeadership
from tests.support.receivers import Receiver, http_receiver
from tests.support.waiting import eventually

TTL = timedelta(seconds=15)


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[SupervisorStores]:
    async with supervisor_stores(Settings.model_validate({"database_url": database_url})) as opened:
        yield opened


def duties_on(stores: SupervisorStores, receiver: Receiver) -> Duties:
    holder = uuid4()
    return Duties(
        Settings.model_validate({"alert_webhook": receiver.address}),
        stores,
        holder=holder,
        sight=lambda: Sight(worker_id=WorkerId(holder), now=0.0, unbroken_for=timedelta(0)),
    )


async def look_for_a_while(duties: Duties) -> None:
    """Two looks that are far enough apart to tell of an outage."""
    await duties._tell_of_outage()
    for outage in duties._alerting._outages.values():
        if outage._since is not None:
            outage._since = datetime.now(UTC) - DOWN.hold
    await duties._tell_of_outage()


def told(receiver: Receiver) -> list[str]:
    return [msgspec.json.decode(body)["status"] for _, _, body in receiver.got]


async def test_only_who_led_when_the_database_went_away_tells_of_it(stores: SupervisorStores) -> None:
    """And that it is back, whoever leads then."""
    nowhere = DedicatedDatabase("postgresql://127.0.0.1:1/none", application_name="tests")
    with http_receiver() as receiver:
        both = leader, follower = duties_on(stores, receiver), duties_on(stores, receiver)
        for one in both:
            await one._stand()
            await look_for_a_while(one)
        assert told(receiver) == []
        for one in both:
            one._leadership = PostgresLeadership(nowhere, holder=uuid4(), ttl=TTL)
            with pytest.raises(DatabaseUnavailable):
                await one._stand()
        await look_for_a_while(follower)
        assert told(receiver) == []
        await look_for_a_while(leader)
        assert told(receiver) == ["firing"]
        leader._leadership = PostgresLeadership(stores.duties, holder=uuid4(), ttl=TTL)
        await leader._stand()
        assert leader._term is None
        await look_for_a_while(leader)
    assert told(receiver) == ["firing", "resolved"]


async def test_a_database_that_refuses_is_not_away(stores: SupervisorStores) -> None:
    with http_receiver() as receiver:
        leader = duties_on(stores, receiver)
        await leader._stand()
        leader._leadership = PostgresLeadership(stores.duties, holder=uuid4(), ttl=TTL, schema="nowhere")
        with pytest.raises(SchemaMissing):
            await leader._stand()
        await look_for_a_while(leader)
    assert told(receiver) == []


async def test_the_leader_looks_and_sends_and_nobody_else(stores: SupervisorStores) -> None:
    said = trial()
    nothing = Step(alerts=(), forgotten=(), fired=(), resolved=())
    await stores.alerts.keep(nothing, {"webhook": [said]})
    with http_receiver() as receiver:
        leader, follower = duties_on(stores, receiver), duties_on(stores, receiver)
        for one in (leader, follower):
            await one._stand()
        for one in (follower, leader):
            assert told(receiver) == []
            await one._look_for_alerts()
            await one._send_messages()
    assert [headers["idempotency-key"] for _, headers, _ in receiver.got] == [str(said.id)]


OF_LONG_AGO = """
INSERT INTO perdure.restores (planned_at, cut_at, open_since, cut, newest, source, actor, reason, scope, policy)
VALUES (now() - interval '40 days', now(), now(), pg_current_snapshot(), gen_random_uuid(), 'a time', 'kim', '', '{}', '{}')
"""
DONE = """
SELECT (SELECT count(*) FROM perdure.moments) AS moments, (SELECT count(*) FROM perdure.restores) AS plans
"""


async def test_the_leader_remembers_moments_saves_and_looks_after_restores_by_itself(
    stores: SupervisorStores, database_url: str, tmp_path: Path
) -> None:
    """In its own loops, without anybody who calls the duty; whoever does not lead does none of it."""
    settings = Settings.model_validate(
        {"database_url": database_url, "snapshots": str(tmp_path), "model_training": False}
    )
    sight = Sight(worker_id=WorkerId(uuid4()), now=0.0, unbroken_for=timedelta(0))
    leader, follower = (Duties(settings, stores, holder=uuid4(), sight=lambda: sight) for _ in range(2))
    connection = await asyncpg.connect(database_url)
    await PostgresPolicy(stores.duties).set(policy_of(timedelta(hours=1), 1), actor="kim")
    await connection.execute(OF_LONG_AGO)
    (before,) = await connection.fetch(DONE)
    await leader._stand()
    for duty in (follower._stand, follower._mark, follower._save, follower._carry_restores_on):
        await duty()
    assert await connection.fetch(DONE) == [before]
    assert await snapshots_of(settings).list() == []

    async def done() -> bool:
        ((moments, plans),) = await connection.fetch(DONE)
        saved = [each.automatic for each in await snapshots_of(settings).list()]
        return bool(moments > before["moments"]) and plans == 0 and saved == [True]

    leading = asyncio.create_task(leader.run())
    await eventually(done, within_s=60)
    leading.cancel()
    with suppress(asyncio.CancelledError):
        await leading
    await connection.close()
