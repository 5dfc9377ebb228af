"""A limit on the memory of a process and all that it starts, by a control group of the kernel."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")
FILES = (("memory", "memory.limit_in_bytes"), ("", "memory.max"))
"""Where the limit stands in the first and in the second version of control groups."""


@contextmanager
def limited_memory(pid: int, *, mb: int) -> Iterator[int | None]:
    """Give the processes of a tree `mb` together, which the kernel enforces by SIGKILL; None where that is not allowed."""
    for controller, file in FILES:
        group = GROUPS / controller / f"perdure-torture-{os.getpid()}"
        try:
            group.mkdir()
            (group / file).write_text(str(mb << 20))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        try:
            (group / "cgroup.procs").write_text(str(pid))
            for process in psutil.Process(pid).children(
                recursive=True
            ):  # those that it starts later are born in it
                (group / "cgroup.procs").write_text(str(process.pid))
            yield mb
        finally:
            _dissolve(group)
        return
    yield None


def _dissolve(group: Path) -> None:
    """Its processes go back to the parent group, so that it can be removed."""
    for pid in (group / "cgroup.procs").read_text().split():
        with suppress(OSError):
            (group.parent / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        group.rmdir()
