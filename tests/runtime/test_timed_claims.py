"""Claims are counted and timed, also those that fail."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from perdure.domain.errors import WorkerGone
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, Scope
from perdure.runtime.timed_claims import TimedClaims
from perdure.stores.postgres.dispatch import PostgresDispatch
from tests.support.system import System, system_on

SCOPE = Scope(queues=("default",), kinds=("app.work",))


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as made:
        yield made


async def test_what_claims_take_is_added_up(system: System) -> None:
    await system.add()
    timed = TimedClaims(PostgresDispatch(system.database))
    assert timed.figures() == {"claims": 0, "claim_ms": 0.0}
    claimer = Claimer(worker_id=await system.worker(), process=0)
    assert len(await timed.claim(claimer, SCOPE, limit=5)) == 1
    once = timed.figures()
    assert once["claims"] == 1
    assert once["claim_ms"] > 0
    with pytest.raises(WorkerGone):
        await timed.claim(Claimer(worker_id=WorkerId(uuid4()), process=0), SCOPE, limit=5)
    twice = timed.figures()
    assert twice["claims"] == 2
    assert twice["claim_ms"] > once["claim_ms"]
