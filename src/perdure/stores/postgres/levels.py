"""How many jobs stand in each state and what ended lately: counted by the leader, so that a page over millions has not to."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from time import monotonic

import msgspec

from perdure.domain.job import JobState
from perdure.domain.settlement import Outcome
from perdure.domain.views import CountView, RateView
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rollups import MILLISECOND, id_at
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

BIN = timedelta(seconds=10)
BEHIND = timedelta(seconds=60)
"""So far back ten-second counts begin when nobody has counted lately."""
SKEW = timedelta(seconds=5)
"""How far a producer's clock may be off for its jobs to be in these counts; those of whole minutes allow for more."""
KEPT = timedelta(minutes=10)
KEPT_DAYS = 14
DENSE = timedelta(hours=1)
SHARE = 50
"""Levels are counted anew after so many times as long as counting them took: a fiftieth of one core at most."""
OFTEN_S = 10.0
FEW = 20_000
"""With fewer live jobs than this they are counted when somebody asks."""
FRESH = timedelta(minutes=2)


class PostgresLevels:
    """The leader's duty: counts the last seconds, and now and then all that lives."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("levels", schema)
        self._next_at = 0.0

    async def run_once(self, now: datetime | None = None) -> bool:
        """One round; gives whether the levels were counted, too. Raises DatabaseUnavailable."""
        await self._count_recent(now)
        began = monotonic()
        if began < self._next_at:
            return False
        await self._database.fetch(self._sql["count_levels"], now)
        await self._database.fetch(self._sql["thin_levels"], KEPT_DAYS, DENSE // MILLISECOND)
        ended = monotonic()
        self._next_at = ended + max(OFTEN_S, SHARE * (ended - began)) - OFTEN_S / 2
        return True

    async def _count_recent(self, now: datetime | None) -> None:
        (row,) = await self._database.fetch(self._sql["newest_recent"], now)
        until = bin_of(row["now"])
        since = max(until - BEHIND, row["newest"] or until - BEHIND)
        if since < until:
            bounds = (id_at(since - SKEW), id_at(until + SKEW))
            await self._database.fetch(self._sql["count_recent"], since, until, *bounds)
        await self._database.fetch(self._sql["forget_recent"], KEPT // MILLISECOND)


def bin_of(moment: datetime) -> datetime:
    """The beginning of the ten seconds that a moment lies in."""
    return moment.replace(second=moment.second // 10 * 10, microsecond=0)


def level_counts(level: Row) -> tuple[CountView, ...]:
    """The counts of states that levels tell; all of them are of some seconds before."""
    lanes = msgspec.json.decode(level["lanes"], type=list[dict[str, int | str | None]])
    found = {state: sum(int(lane.get(state) or 0) for lane in lanes) for state in JobState}
    found[JobState.AVAILABLE] += sum(int(lane["parked"] or 0) for lane in lanes)
    found |= {JobState.CANCELLED: level["cancelled"], JobState.DISCARDED: level["discarded"]}
    found[JobState.COMPLETED] = 0
    found[JobState.COMPLETED] = max(0, level["jobs"] - sum(found.values()))
    return tuple(CountView(state=state, count=found[state], approximate=True) for state in JobState)


def level_rates(level: Row) -> tuple[RateView, ...]:
    """How attempts had ended in the minute before the levels were counted."""
    ended: Mapping[str, int] = msgspec.json.decode(level["ended"])
    return tuple(RateView(outcome=Outcome(name), count=count) for name, count in sorted(ended.items()))
