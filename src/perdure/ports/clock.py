"""The seam to time."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the system sees it; tests bring their own."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...
