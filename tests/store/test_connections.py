"""Connections: whatever hangs is given up in time, whichever way it was asked."""

import asyncio
from time import monotonic

import pytest

from perdure.domain.errors import DatabaseUnavailable
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.statements import Statement

SLEEP = Statement("sleep", ("seconds",), "SELECT pg_sleep($1)", "")
ONE = Statement("one", (), "SELECT 1 AS one", "")


async def test_a_command_that_hangs_is_given_up_alone_and_in_a_transaction(database_url: str) -> None:
    """A heartbeat is a transaction: without a limit a connection that went silent would hold it for a quarter of an hour."""
    database = DedicatedDatabase(database_url, application_name="tests", command_timeout=0.2)
    try:
        for hang in (database.fetch(SLEEP, 30.0), database.fetch_all((ONE, ()), (SLEEP, (30.0,)))):
            began = monotonic()
            with pytest.raises(DatabaseUnavailable):
                await asyncio.wait_for(hang, 10)
            assert monotonic() - began < 5
        assert [row["one"] for row in await database.fetch(ONE)] == [1]
    finally:
        await database.close()
