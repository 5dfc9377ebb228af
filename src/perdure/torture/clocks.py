"""An application whose processes live in another hour: their wall clock, as Python tells it, is off by an hour.

What can be moved for one process without privileges is what Python says of the time; the clock of the machine is
everybody's. Ids of jobs that these handlers enqueue carry the wrong hour. Imported as the application of a worker.
"""

import datetime as dt
import time
from typing import Any

HOUR_S = 3600


class Moved(dt.datetime):
    """The time of day, moved."""

    offset = dt.timedelta(0)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return super().now(tz) + cls.offset


def move(seconds: int) -> None:
    """Move the wall clock of this process."""
    told, told_ns = time.time, time.time_ns
    Moved.offset = dt.timedelta(seconds=seconds)
    time.time = lambda: told() + seconds
    time.time_ns = lambda: told_ns() + seconds * 1_000_000_000
    dt.__dict__["datetime"] = Moved
