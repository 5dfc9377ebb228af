"""What threatens the database: transactions that stay open, dead rows, connections, and what an attempt costs in WAL."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from perdure.domain.alerts import limits

OPEN_LONG_S = 60.0
"""So long an open transaction is named, long before an alert fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTransaction:
    """A transaction of this server; `pid` is None for a prepared one, which `application` then names."""

    age_s: float
    pid: int | None
    owner: str
    application: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """Rows of a table as the server estimates them, and when it was vacuumed last."""

    name: str
    live: int
    dead: int
    vacuumed_at: datetime | None

    @property
    def is_bloated(self) -> bool:
        """Whether an alert fires when it stays so."""
        return self.dead > limits.DEAD_ROWS_MIN and self.dead > limits.DEAD_PER_LIVE * max(self.live, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How the database stands; `wal_per_attempt` is of the whole server over `watched_s`, None while too little was seen."""

    at: datetime
    transactions: tuple[OpenTransaction, ...]
    tables: tuple[TableRows, ...]
    connections: int
    connections_max: int
    wal_per_attempt: float | None
    watched_s: float


def threats(pressure: Pressure) -> Sequence[str]:
    """What to look at, in sentences; empty when nothing threatens."""
    found = [
        f"A transaction of {one.owner or 'somebody'} has been open for {one.age_s:.0f} s "
        f"({one.application or 'no name'}, {one.state or 'unknown'}): while it is, no dead row can be cleared away."
        for one in pressure.transactions
        if one.age_s > OPEN_LONG_S
    ]
    found += [
        f"Table {one.name} has {one.dead:,} dead rows beside {one.live:,} live ones: claims read past them."
        for one in pressure.tables
        if one.is_bloated
    ]
    if pressure.connections > limits.CONNECTIONS * pressure.connections_max:
        found.append(
            f"{pressure.connections} of {pressure.connections_max} connections are in use: soon nobody gets a new one."
        )
    return found
