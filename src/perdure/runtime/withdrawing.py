"""What a supervisor does when its worker is cordoned, evacuated, or to take less by its health."""

import asyncio
from collections.abc import Mapping

import structlog

from perdure.domain.worker import Beat
from perdure.runtime.children import ChildProcess

log = structlog.get_logger("perdure.worker")


class Withdrawing:
    """Passes on to the processes that they take nothing new, or less, or how long what they run may still take."""

    def __init__(self, children: Mapping[int, ChildProcess], stopping: asyncio.Event, *, name: str) -> None:
        self._name = name
        self._children = children
        self._stopping = stopping
        self._grace_s: float | None = None
        self.cordoned = False
        self._share = 1.0

    def patience_s(self, usual_s: float) -> float:
        """How long what runs may take once the worker drains."""
        return usual_s if self._grace_s is None else self._grace_s

    def welcome(self, child: ChildProcess) -> None:
        """Tell a process that became ready while the worker is cordoned."""
        if self._fills < 1:
            child.tell({"share": self._fills})

    def hear(self, beat: Beat) -> None:
        """What a heartbeat brought back. A worker that drains already is hastened by an evacuation."""
        before = self._fills
        if beat.cordoned is not self.cordoned:
            self.cordoned = beat.cordoned
            log.info("cordoned: takes nothing new" if beat.cordoned else "uncordoned")
        if beat.share != self._share:
            self._share = beat.share
            _tell_of_share(beat.share, self._name)
        if self._fills != before:
            self._tell({"share": self._fills})
        if beat.grace is not None and self._grace_s is None:
            self._grace_s = beat.grace.total_seconds()
            log.info("evacuated", grace_s=self._grace_s)
            if self._stopping.is_set():
                self._tell({"drain": self._grace_s})

    @property
    def _fills(self) -> float:
        """The share of its slots that a process may fill."""
        return 0.0 if self.cordoned else self._share

    def _tell(self, message: object) -> None:
        for child in self._children.values():
            child.tell(message)


def _tell_of_share(share: float, name: str) -> None:
    """Why less is taken is told by the worker's health, which is kept by the leader."""
    step = f"perdure worker health {name}"
    if share >= 1:
        log.info("healthy enough again: fills all of its slots")
    elif share > 0:
        told = (
            "its health score is low: it fills a part of its slots, and healthier workers take the other jobs"
        )
        log.warning(told, slots=f"{share:.0%}", next=step)
    else:
        told = "its health score says that it may fail soon: it takes nothing new, and healthier workers take its jobs"
        log.warning(told, slots="0%", next=step)
