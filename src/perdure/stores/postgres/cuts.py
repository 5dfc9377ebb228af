"""Cuts: the moments that are remembered, and which of them answers for a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from perdure.domain.durations import format_moment
from perdure.domain.errors import PastUnknown
from perdure.stores.postgres.rows import Row

MILLISECOND = timedelta(milliseconds=1)
GAP_MAX = timedelta(seconds=30)
"""The last moment remembered may be so much older than the one asked for; leadership passes on within it."""
DENSE = timedelta(hours=24)
"""So long every moment is kept; after that, one a minute."""
DENSE_GAP_MAX = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A moment as it was remembered; see the table `moments`."""

    at: datetime
    cut: str
    newest: UUID
    open_since: datetime


def cut_of(moment: datetime, row: Row) -> Cut:
    """The last moment remembered at or before this one, as the statement `moment` found it. Raises PastUnknown."""
    earliest = row["earliest"]
    if earliest is None:
        raise PastUnknown(
            "no moment has been remembered yet", next_step="moments are remembered while a worker leads"
        )
    if moment > row["now"]:
        raise PastUnknown(f"{format_moment(moment)} has not come yet", earliest=earliest)
    if row["at"] is None:
        raise PastUnknown(
            f"{format_moment(moment)} is before the earliest moment remembered, {format_moment(earliest)}",
            earliest=earliest,
            next_step=f"ask for {format_moment(earliest + MILLISECOND)} or later",
        )
    _refuse_gap(moment, row)
    return Cut(at=row["at"], cut=row["cut"], newest=row["newest"], open_since=row["open_since"])


def _refuse_gap(moment: datetime, row: Row) -> None:
    most = GAP_MAX if row["now"] - row["at"] < DENSE else DENSE_GAP_MAX
    if moment - row["at"] <= most:
        return
    until = f"until {format_moment(row['later'])}" if row["later"] else "since"
    raise PastUnknown(
        f"nothing was remembered from {format_moment(row['at'])} {until}: no worker led then",
        earliest=row["earliest"],
        next_step=f"ask for {format_moment((row['later'] or row['at']) + MILLISECOND)}",
    )
