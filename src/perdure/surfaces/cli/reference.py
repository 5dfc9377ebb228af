"""Writes the pages of the reference from what they describe: `python -m perdure.surfaces.cli.reference FOLDER`."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from perdure.domain import errors
from perdure.runtime.embedded import errors as embedded_errors
from perdure.runtime.settings import PRESETS, Settings
from perdure.runtime.settings_sources import PREFIX
from perdure.runtime.web_settings import WebSettings
from perdure.surfaces.cli import failures
from perdure.surfaces.cli.exits import CODES, MEANINGS
from perdure.surfaces.cli.program import tree
from perdure.surfaces.cli.python_reference import python_page

# Cyclopts puts how this program was started (`-m pytest`) into the usage of some commands.
_PROGRAM = re.compile(r"^(perdure [a-z ]+?) -m \S+")

CONFIGURATION = """# Settings

Every setting has one name. It is read from four places; each wins over those before it:

1. the default
2. a file: `perdure.toml`, or the table `[tool.perdure]` of `pyproject.toml`, in the working folder or the nearest
   folder above it, or the file named by `--config`
3. the environment: `{prefix}` and the name in capitals, such as `{prefix}DATABASE_URL`; an empty variable counts as not set
4. the flags of a command

An unknown name in a file is refused. Lists are separated by commas in the environment and in flags.
`perdure config show` tells each value and where it comes from, with passwords masked; `perdure config check` tells
everything that is wrong.

A worker opens at most `max_connections` connections; it needs 9, and 3 for each process. `dead_after_s` must be at
least 3 times `heartbeat_interval_s`.

| Setting | Default | Bounds | Meaning |
| --- | --- | --- | --- |
{rows}

## Presets

`preset` sets several starting values at once; a value that is set by itself wins over it.

| Preset | Sets |
| --- | --- |
{presets}
"""

COMMANDS = """# Commands

Data goes to stdout, everything else to stderr. On a terminal `-o auto` is a table; elsewhere one line per row,
separated by tabs, with no heading and no colours. Documents of `-o json` and lines of `-o ndjson` carry their `schema`;
errors are then one line of JSON on stderr (`perdure.error/1`). A job's own JSON is passed through unchanged.

Commands that change many jobs show how many match and some of them. They go on with `--yes`, or on a terminal
after the count has been typed; `--dry-run` changes nothing.

## Exit codes

| Code | Meaning |
| --- | --- |
{exits}

{commands}
"""

ERRORS = """# Error codes

Every error tells what happened and why, the next command to run, and one of these codes.
The codes do not change from version to version.

| Code | Error | Exit code | Meaning |
| --- | --- | --- | --- |
{rows}
"""


def configuration_page() -> str:
    """All settings with defaults, bounds and meaning."""
    rows = [
        f"| `{name}` | {_default(field)} | {_bounds(field)} | {_cell(field.description or '')} |"
        for name, field in sorted(
            Settings.model_fields.items(), key=lambda one: one[0] in WebSettings.model_fields
        )
    ]
    presets = [
        f"| `{name}` | {', '.join(f'`{key} = {value:g}`' for key, value in values.items()) or 'nothing'} |"
        for name, values in _numbers(PRESETS).items()
    ]
    return CONFIGURATION.format(prefix=PREFIX, rows="\n".join(rows), presets="\n".join(presets))


def commands_page() -> str:
    """All commands with their options, and the exit codes."""
    exits = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    pages = tree().generate_docs(
        output_format="markdown", recursive=True, heading_level=2, usage_name="perdure"
    )
    lines = "\n".join(_PROGRAM.sub(r"\1", line.rstrip()) for line in pages.strip().splitlines())
    return COMMANDS.format(exits="\n".join(exits), commands=lines)


def errors_page() -> str:
    """All error codes."""
    meanings = _meanings()
    rows = [f"| {code} | `{name}` | {code.exit.value} | {meanings[name]} |" for name, code in CODES.items()]
    return ERRORS.format(rows="\n".join(rows))


PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": configuration_page,
    "cli.md": commands_page,
    "errors.md": errors_page,
    "python.md": python_page,
}


def write_pages(folder: Path) -> None:
    """Write all pages anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")


def _meanings() -> Mapping[str, str]:
    meanings = {
        "InsufficientPrivilegeError": "PostgreSQL does not allow this to the user.",
        "PermissionError": "The operating system does not allow this to the user.",
        "Exception": "An error that should not happen; please report it.",
    }
    for module in (errors, embedded_errors, failures):
        for name, kind in vars(module).items():
            if name in CODES and isinstance(kind, type):
                meanings[name] = (kind.__doc__ or "").strip().splitlines()[0]
    return meanings


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "number of cores"
    value = field.default
    if isinstance(value, SecretStr) or value in {"", ()}:
        return "empty"
    return f"`{','.join(value) if isinstance(value, tuple) else _plain(value)}`"


def _bounds(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    limits = {
        name: getattr(each, name) for each in field.metadata for name in ("ge", "le") if hasattr(each, name)
    }
    return f"{_plain(limits['ge'])} to {_plain(limits['le'])}" if limits else ""


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(presets: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: value for key, value in values.items() if isinstance(value, int | float)}
        for name, values in presets.items()
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
