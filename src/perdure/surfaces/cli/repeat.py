"""Repeats what a command shows, for `--watch`."""

import sys
from collections.abc import AsyncIterator
from datetime import timedelta

from perdure.domain.errors import InvalidOption

SHORTEST = timedelta(milliseconds=100)
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


async def repeated(interval: timedelta | None) -> AsyncIterator[int]:
    """Once, or again and again until Ctrl-C; on a terminal each time on an empty screen."""
    import asyncio

    if interval is None:
        yield 0
        return
    if interval < SHORTEST:
        raise InvalidOption("watch", "cannot be shorter than 100ms")
    round_ = 0
    while True:
        if sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        yield round_
        sys.stdout.flush()
        round_ += 1
        await asyncio.sleep(interval.total_seconds())
