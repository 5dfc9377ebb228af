"""Finds and reads the file of settings: `perdure.toml`, or the table `[tool.perdure]` of `pyproject.toml`."""

import tomllib
from pathlib import Path
from typing import Any

from perdure.domain.errors import InvalidSettings

FILE_NAME = "perdure.toml"
PROJECT_FILE_NAME = "pyproject.toml"
ANOTHER = "mend it, or name another with --config; `perdure init` writes a first one"


def find_file(start: Path) -> Path | None:
    """The nearest file of settings in `start` and the folders above it."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        project = folder / PROJECT_FILE_NAME
        if project.is_file() and _table(project) is not None:
            return project
    return None


def read_file(path: Path) -> dict[str, object]:
    """The settings of a file, with its folder and its application relative to it. Raises InvalidSettings."""
    table = _table(path)
    if table is None:
        raise InvalidSettings("config", f"{path} has no table [tool.perdure]", next_step=ANOTHER)
    folder = table.get("data_dir")
    if isinstance(folder, str):
        table["data_dir"] = path.parent / folder
    app = table.get("app")
    if isinstance(app, str) and app.partition(":")[0].endswith(".py"):
        table["app"] = str(path.parent / app)
    return table


def _table(path: Path) -> dict[str, Any] | None:
    """The settings of a file; None for a pyproject.toml without any."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidSettings(
            "config", f"{path} cannot be read: {error.strerror}", next_step=ANOTHER
        ) from None
    except UnicodeDecodeError:
        raise InvalidSettings("config", f"{path} is not UTF-8", next_step=ANOTHER) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings("config", f"{path} is not valid TOML: {error}", next_step=ANOTHER) from None
    if path.name != PROJECT_FILE_NAME:
        return document
    tool = document.get("tool", {})
    table = tool.get("perdure") if isinstance(tool, dict) else None
    return dict(table) if isinstance(table, dict) else None
