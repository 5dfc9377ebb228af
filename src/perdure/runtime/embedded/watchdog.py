"""Ends one server when its parent is gone, where the kernel (macOS, BSD) has no signal for a parent's death.

Run by path (`python -I -S watchdog.py SERVER_PID SIGNAL`) with a pipe from the parent as its input. The end of the
pipe without the word `done` means that the parent died.
"""

import os
import sys
from contextlib import suppress


def main() -> None:
    server, death_signal = int(sys.argv[1]), int(sys.argv[2])
    if sys.stdin.read().strip() != "done":
        with suppress(ProcessLookupError):
            os.kill(server, death_signal)


if __name__ == "__main__":
    main()
