"""The places that settings are read from, in their order; nothing else reads the environment."""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource

from perdure.domain.errors import InvalidSettings
from perdure.runtime.settings_file import find_file, read_file

PREFIX = "PERDURE_"
Fields = type[BaseSettings]


def layers(
    cls: Fields, flags: Mapping[str, object], config_path: Path | None
) -> Iterator[tuple[str, dict[str, object]]]:
    """Each source that has something to say, with its values; a later one wins. Raises InvalidSettings."""
    path = config_path if config_path is not None else find_file(Path.cwd())
    if path is not None:
        table = read_file(path)
        _refuse_unknown(table, cls, f"no such setting, in {path}")
        yield f"file {path}", table
    for name, value in EnvSettingsSource(cls)().items():
        yield f"environment {PREFIX}{name.upper()}", {name: value}
    given = {name: value for name, value in flags.items() if value is not None}
    _refuse_unknown(given, cls, "no such setting")
    yield "flag", given


def misspelt_variables(cls: Fields) -> Iterator[str]:
    """A sentence for each variable that is no setting and looks like one."""
    known = [PREFIX + name.upper() for name in cls.model_fields]
    for name in unknown_variables(cls):
        if near := get_close_matches(name, known, 1, 0.85):
            yield f"the environment has {name}, which is no setting; did you mean {near[0]}?"


def unknown_variables(cls: Fields) -> Iterator[str]:
    """The variables that begin as those of settings do, and are none."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in cls.model_fields:
            yield name


def nearest(name: str, cls: Fields) -> str:
    """A next step that names the setting that was probably meant."""
    near = get_close_matches(name, cls.model_fields, n=1)
    return f"did you mean {near[0]}?" if near else "see `perdure config show` for all"


def _refuse_unknown(values: Mapping[str, object], cls: Fields, why: str) -> None:
    for name in values:
        if name not in cls.model_fields:
            raise InvalidSettings(name, why, next_step=nearest(name, cls))
