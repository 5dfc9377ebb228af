"""Which application `perdure dev` runs in a folder: noted beside its servers' data, so that commands can ask it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.runtime.embedded.layout import Layout


@contextmanager
def noted(data_dir: Path, app: str) -> Iterator[None]:
    """Note the application, as it is named in this working folder, for as long as it runs."""
    note = _note(data_dir)
    note.write_text(f"{app}\n{Path.cwd()}\n", "utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def noted_application(data_dir: Path) -> str:
    """The application that runs in this working folder; empty when none does."""
    try:
        app, folder = _note(data_dir).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return app if Path(folder) == Path.cwd() else ""


def _note(data_dir: Path) -> Path:
    return Layout(data_dir.expanduser().resolve()).application
