"""Hands a worker's settings on to the code that it runs."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from pydantic import SecretStr

from perdure.runtime.settings import Settings
from perdure.runtime.settings_sources import PREFIX

NOT_FOR_HANDLERS = frozenset({"web_users"})
"""What no job has any use for."""


def export(settings: Settings, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let `Perdure()` in handlers, and the processes that they start, find the database that the worker uses.

    A worker may have its settings from flags or from another program; a handler that enqueues more jobs
    must not look for them elsewhere. What is empty is taken away, so that no file or shell of the user's sets it.
    """
    for name in Settings.model_fields:
        text = "" if name in NOT_FOR_HANDLERS else _as_text(getattr(settings, name))
        if text:
            environment[PREFIX + name.upper()] = text
        else:
            environment.pop(PREFIX + name.upper(), None)


def exported(settings: Settings) -> dict[str, str]:
    """The environment of this process with the settings in it, for one that it starts."""
    environment = dict(os.environ)
    export(settings, environment)
    return environment


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value.absolute() if isinstance(value, Path) else value)
