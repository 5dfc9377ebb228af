"""One owner per data folder: a lock that the owner's servers hold too.

The servers inherit the open lock file, so the lock is free only when the owner and every process of its servers
are gone, however they ended. Nobody has to guess from process numbers whether old servers still run.
"""

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def try_to_own(lock: Path) -> int | None:
    """An open file that holds the lock, or None while another process holds it."""
    held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    except BaseException:
        os.close(held)
        raise
    return held
