"""The event loop of our own processes: uvloop where it is installed, for it halves the cost of single commands."""

import asyncio
from collections.abc import Callable


def quick_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """What `asyncio.Runner` makes its loop with."""
    try:
        import uvloop
    except ImportError:  # there is no wheel for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop
