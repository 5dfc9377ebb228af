"""The rank: one sortable number, fixed when a job becomes available; the smallest starts first.

rank = ready time in microseconds since 1970 - head start of the priority's band. All jobs of a lane age at the
same speed, so the order never changes and a low job can be overtaken only by higher ones that become ready
within the head start: exactly the specification's aging, with no sweeper.
"""

from datetime import UTC, datetime, timedelta
from enum import IntEnum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Band(IntEnum):
    """Jobs of one band are first in, first out; suspects are run alone."""

    HIGH = 0
    MEDIUM = 1
    LOW = 2
    SUSPECT = 3


HEAD_START = {
    Band.HIGH: timedelta(seconds=180),
    Band.MEDIUM: timedelta(seconds=60),
    Band.LOW: timedelta(0),
    Band.SUSPECT: timedelta(seconds=180),
}


def band_of(priority: int) -> Band:
    """The band of a priority: high 4-5, medium 2-3, low 1."""
    if priority >= 4:
        return Band.HIGH
    return Band.MEDIUM if priority >= 2 else Band.LOW


def rank_of(ready_at: datetime, priority: int) -> int:
    """The rank of a job that becomes ready at `ready_at`."""
    return (ready_at - EPOCH - HEAD_START[band_of(priority)]) // timedelta(microseconds=1)


def queue_key(priority: int) -> str:
    """The name of a priority's queue as other systems know it; each lane has a list of this queue."""
    return f"job:queue:{band_of(priority).name.lower()}"
