"""Which application `perdure dev` runs in a folder, or ran last: noted beside its servers' data, so that commands can ask it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.runtime.embedded.layout import Layout


@contextmanager
def noted(data_dir: Path, app: str) -> Iterator[int | None]:
    """Note the application, as it is named in this working folder; the note stays when it has ended.

    Where another process has its note there and lives, that one stays, and its pid is given.
    """
    path = _note(data_dir)
    with path.open("a+", encoding="utf-8") as note:
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note.seek(0)
            yield _pid(note.read())
            return
        note.truncate(0)
        note.write(f"{app}\n{Path.cwd()}\n{os.getpid()}\n")
        note.flush()
        yield None


def _pid(note: str) -> int:
    *_, last = ["0", *note.split()]
    return int(last) if last.isdecimal() else 0


def noted_application(data_dir: Path) -> str:
    """The application that runs in this working folder, or ran last; empty when none did, or it is a file that is gone."""
    try:
        app, folder, *_ = _note(data_dir).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    known = Path(folder) == Path.cwd() and (
        not (file := app.partition(":")[0]).endswith(".py") or Path(file).is_file()
    )
    return app if known else ""


def _note(data_dir: Path) -> Path:
    return Layout(data_dir.expanduser().resolve()).application
