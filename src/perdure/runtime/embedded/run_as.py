"""How PostgreSQL is run when we are one of those whom it refuses: root, or a user without a name."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from perdure.runtime.embedded.binaries import PostgresBinaries
from perdure.runtime.embedded.errors import NoUnprivilegedUser

if sys.platform != "win32":
    import pwd

NOBODY = 65534
EXEC_AS = Path(__file__).with_name("exec_as.py")
PROBE_WITHIN_S = 10


class RunAs(StrEnum):
    """As whom a server runs."""

    SAME = "same"
    NAMESPACE = "namespace"
    NOBODY = "nobody"


EXPLAINED = {
    RunAs.SAME: "as this user",
    RunAs.NAMESPACE: "as nobody inside a user namespace, because this user is root or has no name",
    RunAs.NOBODY: "as nobody, because this user is root and user namespaces are forbidden here",
}


def choose_run_as() -> RunAs:
    """This user, unless it is root or has no name: then a user namespace where the kernel allows one.

    PostgreSQL refuses both. Nameless users are common in containers (`docker run --user 1234`).
    """
    root = os.geteuid() == 0
    if not root and _has_name(os.geteuid()):
        return RunAs.SAME
    if _namespaces_work():
        return RunAs.NAMESPACE
    return RunAs.NOBODY if root else RunAs.SAME


def command_as(run_as: RunAs, command: Sequence[str], *, death_signal: signal.Signals) -> list[str]:
    """The command line that runs `command` as that user and ends it when the calling process ends."""
    wrapper = [sys.executable, "-I", "-S", str(EXEC_AS)]
    return [*wrapper, str(os.getpid()), str(int(death_signal)), run_as.value, *command]


def hand_over(folder: Path, run_as: RunAs) -> None:
    """Give a folder and what is in it to the user that the server runs as; its parents keep their rights.

    Only root can, and it takes only from itself and from `nobody`: data of other users stays theirs.
    """
    if os.geteuid() != 0:
        return
    heir = NOBODY if run_as is RunAs.NOBODY else 0
    if folder.stat().st_uid in {0, NOBODY} - {heir}:
        for place in (folder, *folder.rglob("*")):
            os.chown(place, heir, heir, follow_symlinks=False)


def require_reachable(folder: Path, run_as: RunAs) -> None:
    """Refuse a data folder that `nobody` could not enter. Never widens the rights of folders we did not make."""
    if run_as is not RunAs.NOBODY:
        return
    closed = next((parent for parent in folder.resolve().parents if not _others_may_enter(parent)), None)
    if closed:
        raise NoUnprivilegedUser(
            f"PostgreSQL refuses to run as root, and the user `nobody` may not enter {closed}, "
            f"in which the data folder {folder} lies",
            next_step="choose a data folder outside it (such as /var/lib/perdure), or run as a normal user",
        )
    folder.chmod(0o711)


def reachable_binaries(binaries: PostgresBinaries, run_as: RunAs, copy_to: Path) -> PostgresBinaries:
    """The same programs where the server's user can run them: copied when the originals lie in a closed folder."""
    original = binaries.folder.resolve()
    if run_as is not RunAs.NOBODY or _others_may_run(original / "postgres"):
        return binaries
    if original.parent.name != "pginstall":
        raise NoUnprivilegedUser(
            f"PostgreSQL refuses to run as root, and the user `nobody` may not enter {original}",
            next_step="run as a normal user, or install the server programs where everybody can run them",
        )
    package = original.parent.parent
    copy = copy_to / binaries.version
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir() and not (copy / source.name).is_dir():
            _copy_whole(source, copy / source.name)
    return replace(binaries, folder=copy / original.relative_to(package.parent))


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a folder so that its name appears only when everything is in it."""
    half = target.with_name(f"{target.name}.new")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(source, half, symlinks=True)
    for parent in (half.parent, half.parent.parent):
        parent.chmod(0o711)
    for place in (half, *half.rglob("*")):
        os.chown(place, NOBODY, NOBODY, follow_symlinks=False)
    half.rename(target)


def _others_may_enter(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)


def _others_may_run(program: Path) -> bool:
    runnable = program.stat().st_mode & 0o005 == 0o005
    return runnable and all(_others_may_enter(parent) for parent in program.parents)


def _has_name(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True


def _namespaces_work() -> bool:
    true = shutil.which("true")
    if sys.platform != "linux" or true is None:
        return False
    probe = command_as(RunAs.NAMESPACE, [true], death_signal=signal.SIGKILL)
    try:
        return subprocess.run(probe, capture_output=True, timeout=PROBE_WITHIN_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
