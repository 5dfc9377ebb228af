"""What threatens the database, read from what PostgreSQL tells of itself."""

from datetime import UTC, datetime, timedelta

from perdure.domain.pressure import OpenTransaction, Pressure, TableRows
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

TRANSACTIONS = 5
ENDED_MAX = 100_000
ATTEMPTS_MIN = 20
WATCHED_MAX = timedelta(minutes=5)


class PostgresPressure:
    """Remembers a reading, so that the next one can tell what has been written since; it starts anew every five minutes."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._schema = schema
        self._sql = statements("pressure", schema)
        self._first: tuple[datetime, int] | None = None

    async def read(self) -> Pressure:
        """How it stands now. Raises DatabaseUnavailable."""
        since = self._first[0] if self._first else datetime.now(UTC)
        open_for = await self._database.fetch(self._sql["transactions"], TRANSACTIONS)
        tables = await self._database.fetch(self._sql["tables"], self._schema)
        (totals,) = await self._database.fetch(self._sql["totals"], since, ENDED_MAX)
        at, wal, ended = totals["at"], totals["wal_bytes"], totals["ended"]
        per_attempt, watched_s = None, 0.0
        if self._first is not None:
            watched_s = (at - self._first[0]).total_seconds()
            if ATTEMPTS_MIN <= ended < ENDED_MAX and wal >= self._first[1]:
                per_attempt = (wal - self._first[1]) / ended
        if self._first is None or at - self._first[0] > WATCHED_MAX or ended >= ENDED_MAX:
            self._first = at, wal
        return Pressure(
            at=at,
            transactions=tuple(OpenTransaction(**dict(row)) for row in open_for),
            tables=tuple(TableRows(**dict(row)) for row in tables),
            connections=totals["connections"],
            connections_max=totals["connections_max"],
            wal_per_attempt=per_attempt,
            watched_s=watched_s,
        )
