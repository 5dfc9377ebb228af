"""Work on a worker that decays in a known way. Importing this file is all that its workers know of it."""

import asyncio
import os
import random
import signal
import time

from perdure import Fixed, job

LEAK_MB = 300
MEMORY_MB = 400
"""What one process may have; at its start it has some 60."""

SLOWER = 5.0
FAILING = 0.22
BLOCKED_S, BLOCKED_LAST_S = 0.005, 6.0
LASTS = 1.05
"""How long a fault lasts beside its ramp; then it is over, so that what waits can be worked off."""

_leaked: list[bytes] = []


@job(retries=8, retry=Fixed("10ms"), timeout="60s")
async def work(fault: str, began: float, ramp_s: float) -> None:
    """Twenty milliseconds of work, and the fault as far as it has come: `began` is a moment of the clock."""
    done = (time.time() - began) / ramp_s
    if not 0 < done < LASTS:
        done = 0.0
    match fault:
        case "memory leak":
            _leak(done)
        case "failing jobs" if random.random() < FAILING * done:
            raise ValueError("fails on purpose")
        case "slowing jobs":
            await asyncio.sleep(0.02 * (SLOWER ** min(done, 1.0) - 1))
        case "blocked loop" if done > 0:
            _block(done)
    await asyncio.sleep(0.02)


def _leak(done: float) -> None:
    """Grow; at the end the kernel would take the process away, and here it does so itself."""
    _leaked.extend(os.urandom(1 << 20) for _ in range(int(LEAK_MB * min(done, 1.0)) - len(_leaked)))
    if done >= 1 and len(_leaked) >= LEAK_MB:
        os.kill(os.getpid(), signal.SIGKILL)


def _block(done: float) -> None:
    """Keep the loop to itself, at the end for as long as makes a worker suspect."""
    time.sleep(BLOCKED_S * (BLOCKED_LAST_S / BLOCKED_S) ** min(done, 1.0))
