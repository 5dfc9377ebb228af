"""Tells the log once in a process that the database is away, and once that it answers again."""

import structlog

from perdure.domain.errors import DatabaseUnavailable

log = structlog.get_logger("perdure.loop")


class Outage:
    """What all loops of a process learn together of the database; each tells of itself at debug."""

    def __init__(self) -> None:
        self._told = False

    def fails(self, loop: str, error: DatabaseUnavailable) -> None:
        """A loop begins to wait for the database; the first one tells, in its words."""
        if not self._told:
            log.warning("waiting for the database", loop=loop, why=error.message)
            self._told = True

    def works(self, *, asked: bool) -> None:
        """A loop has come through; if it has asked the database, this is the end of an outage that was told."""
        if asked and self._told:
            log.info("database back")
            self._told = False


OF_PROCESS = Outage()
