"""Becomes the user a server must run as, ties its life to its parent's, and turns into the server.

Run by path (`python -I -S exec_as.py PARENT_PID DEATH_SIGNAL RUN_AS COMMAND ...`), so it imports nothing of Perdure
and costs 10 ms. The process number stays the same all the way, which is what makes `postmaster.pid` comparable.
"""

import ctypes
import os
import sys
from pathlib import Path

NOBODY = 65534
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
CANNOT = 126
"""The exit code that says: the command was never run."""


def enter_user_namespace() -> None:
    """Show this user to the command as `nobody`, while its files stay this user's own."""
    user, group = os.geteuid(), os.getegid()
    checked(libc().unshare(CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def drop_to_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def die_with(parent: int, death_signal: int) -> None:
    """Ask the kernel for a signal when the parent ends. After the change of user, which would clear the wish."""
    if sys.platform == "linux":
        checked(libc().prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        sys.exit("the parent is gone already")


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def checked(answer: int, call: str) -> None:
    if answer != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def main() -> None:
    parent, death_signal, run_as, *command = sys.argv[1:]
    try:
        if run_as == "namespace":
            enter_user_namespace()
        elif run_as == "nobody":
            drop_to_nobody()
        die_with(int(parent), int(death_signal))
        # PGPORT, PGOPTIONS and the like of the user's shell are about other servers.
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        os.execve(command[0], command, surroundings)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]} (as: {run_as}): {error}\n")
        sys.exit(CANNOT)


if __name__ == "__main__":
    main()
