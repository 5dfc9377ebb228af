"""The PostgreSQL store of a fresh database; `store` takes the name of the schema as its parameter."""

from collections.abc import AsyncIterator

import pytest

from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.statements import DEFAULT_SCHEMA
from tests.support.database import Store, store_on


@pytest.fixture
async def store(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    schema = getattr(request, "param", DEFAULT_SCHEMA)
    if schema != DEFAULT_SCHEMA:
        await migrate(database_url, schema=schema)
    async with store_on(database_url, schema=schema) as opened:
        yield opened
