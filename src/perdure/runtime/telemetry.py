"""Logs: structured, on stderr, one line an entry."""

import logging
import sys

import structlog

from perdure.runtime.settings import Settings


def configure_logging(settings: Settings, **bound: str) -> None:
    """Set up the log of this process; `bound` stands in each of its entries."""
    terminal = sys.stderr.isatty()
    console = settings.log_format == "console" or (settings.log_format == "auto" and terminal)
    renderer = (
        structlog.dev.ConsoleRenderer(colors=terminal) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**bound)
