"""For the tests of programs that use Perdure: run jobs without workers, ask what was enqueued, break real workers."""

from perdure.testing import faults
from perdure.testing.clock import FrozenClock, advance, make_due
from perdure.testing.drain import drain
from perdure.testing.enqueued import (
    EnqueuedJob,
    assert_enqueued,
    assert_enqueued_sync,
    enqueued,
    enqueued_sync,
)
from perdure.testing.inline import Inline, inline

__all__ = [
    "EnqueuedJob",
    "FrozenClock",
    "Inline",
    "advance",
    "assert_enqueued",
    "assert_enqueued_sync",
    "drain",
    "enqueued",
    "enqueued_sync",
    "faults",
    "inline",
    "make_due",
]
