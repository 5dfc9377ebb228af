"""The log of a command: warnings and worse, a line each on stderr; stdout is for data alone."""

import logging
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

from perdure.runtime.urls import masked_text
from perdure.surfaces.cli.text import visible


def log_to_stderr(*, verbose: bool) -> None:
    """Set up the log of this command; a worker sets up its own in place of it."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, _line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _line(_: WrappedLogger, __: str, entry: EventDict) -> str:
    level, event = entry.pop("level"), entry.pop("event")
    facts = ", ".join(f"{name}: {value}" for name, value in entry.items())
    return masked_text(visible(f"{level}: {event}{f' ({facts})' if facts else ''}"))
