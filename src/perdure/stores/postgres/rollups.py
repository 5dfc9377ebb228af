"""Counts of whole minutes, kept beside the history so that charts of the past need not read it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from perdure.domain.rank import EPOCH
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
SKEW = timedelta(minutes=1)
"""How far a producer's clock may be off for its jobs to be counted; ids carry its time."""
REACH = timedelta(hours=24)
"""So far back the counts begin, and are made up for when nobody led."""
AGAIN = timedelta(minutes=3)
"""Minutes so young are counted anew with each one that is over, for those who commit late."""
STEP = timedelta(minutes=10)
STEPS = 12
KEPT_DAYS = 14


class PostgresRollups:
    """The leader's duty: counts what is not counted yet, bounded, and goes on the next time."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("rollups", schema)

    async def run_once(self, now: datetime | None = None) -> int:
        """One round of at most two hours of history; gives how many minutes were counted. Raises DatabaseUnavailable."""
        (row,) = await self._database.fetch(self._sql["rolled"], now)
        counted = 0
        for since, until in spans(row["newest"], row["now"]):
            await self._database.fetch(
                self._sql["roll_up"], since, until, id_at(since - SKEW), id_at(until + SKEW)
            )
            counted += (until - since) // MINUTE
        await self._database.fetch(self._sql["forget_minutes"], KEPT_DAYS)
        return counted


def spans(newest: datetime | None, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The steps of one round: from the oldest minute that is to be counted, never one that is not over; none until another is.

    A newest minute that is still to come was counted by a clock that was ahead; meanwhile the last ones are counted with each round.
    """
    over = minute_of(now)
    if newest == over - MINUTE:
        return
    since = max(over - REACH, newest + MINUTE if newest is not None else over - REACH)
    since = min(since, over - AGAIN)
    for _ in range(STEPS):
        until = min(since + STEP, over)
        if until <= since:
            return
        yield since, until
        since = until


def minute_of(moment: datetime) -> datetime:
    """The minute that a moment lies in."""
    return moment.replace(second=0, microsecond=0)


def id_at(moment: datetime) -> UUID:
    """The lowest id of version 7 that could be made at that moment."""
    return UUID(int=max(0, (moment - EPOCH) // MILLISECOND) << 80)
