"""Processes that end with their parent, so that nobody runs jobs unwatched."""

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
LOOK_S = 0.5


def die_with_parent(parent: int) -> None:
    """End this process within a second after `parent` has died, even when a handler keeps the interpreter busy.

    Linux kills the process by itself. Elsewhere a thread looks, which cannot help against a handler that
    never lets go of the interpreter lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="perdure-parent").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)
