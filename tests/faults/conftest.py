"""A fleet of worker hosts on a database of its own, with dispatch by PostgreSQL and by Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure import Perdure
from tests.support.fleet import Fleet


@pytest.fixture(params=["postgres", "redis"])
def dispatch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def fleet(
    dispatch: str, database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """Hosts with default settings; with Redis where the test asks for it."""
    redis_url = request.getfixturevalue("redis_url") if dispatch == "redis" else ""
    async with Perdure(database_url=database_url, redis_url=redis_url) as app:
        fleet = Fleet(app=app, folder=tmp_path)
        yield fleet
        await fleet.stop()
