"""The tree of commands and the one place where a command runs and ends."""

import inspect
import io
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from cyclopts import App, CycloptsError, MissingArgumentError

from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.failures import HELP, fail, refuse_usage, verbosity
from perdure.version import __version__

HERE = "perdure.surfaces.cli"
COMMANDS = (
    ("demo", "demo", "Start embedded servers and workers, run work through them, show what happened."),
    ("dev", "dev", "Start everything for development, and reload on change."),
    ("init", "init", "Write a first application and its settings."),
    ("worker", "worker:app", "Run workers, and see them."),
    ("job", "job:app", "Enqueue jobs, see, explain, retry and cancel them."),
    ("queue", "queue:app", "See queues, pause and resume them."),
    ("kind", "kind:app", "Learn from how the jobs of a kind went."),
    ("dlq", "dlq:app", "See what gave up, replay or discard it."),
    ("serve", "serve:serve", "Serve the dashboard, the HTTP API, metrics and probes."),
    ("status", "status:status", "The system on one screen; the exit code is its state."),
    ("top", "top:top", "Queues, workers, jobs and alerts on a screen that lives; needs a terminal."),
    ("snapshot", "snapshot:app", "Save everything, check it, and bring it back into an empty database."),
    ("shared", "shared:app", "Read and write the memory that workers and programs share."),
    (
        "restore",
        "restore:app",
        "Make jobs of a live system again what they were, by a plan that is looked at first.",
    ),
    ("search", "memory:search", "Find past executions like a text, and what fixed them."),
    ("memory", "memory:app", "Keep, see and rebuild the memory of past executions."),
    ("model", "model:app", "See, train, compare, promote and roll back the models that foretell failures."),
    ("alert", "alert:app", "See alerts and their rules, silence them, try the channels."),
    ("export", "export", "Print rules, dashboards, units and manifests for what stands around Perdure."),
    ("at", "at", "Look back: any reading command, as of a moment."),
    ("doctor", "doctor:doctor", "Find and explain what is set up wrongly."),
    ("db", "db:app", "Migrate and check the database."),
    ("config", "config:app", "See the settings and where they come from."),
    (
        "bench",
        "bench",
        "Measure speed and memory on this machine, beside the bare statements of the same server.",
    ),
    (
        "torture",
        "torture:app",
        "Break real workers and servers in every way, and check that every promise held.",
    ),
)
"""Name, where it is (`module:attribute`; without an attribute, a function named as the module), help."""

EVERY = "2s"


def tree() -> App:
    """All commands, each imported when it is used."""
    app = App(
        name="perdure",
        help="Durable jobs: PostgreSQL is the truth, Redis is optional, no finished work is lost.",
        help_format="markdown",
        version_flags=["--version", "-V"],
        version=_version,
    )
    for name, place, text in COMMANDS:
        module, _, attribute = place.partition(":")
        if find_spec(f"{HERE}.{module}") is not None:
            app.command(f"{HERE}.{module}:{attribute or name}", name=name, help=text)
    return app


def run(tokens: Sequence[str]) -> int:
    """Run one command line; every end has its exit code, and none is a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run([f"{word}={EVERY}" if word == "--watch" else word for word in tokens])
    except CycloptsError as error:
        error.verbose = False
        return refuse_usage(_told(error), _help_of(error), tokens)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more; the interpreter must not complain of it when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - whatever fails is told in a sentence, with its exit code
        return fail(error, tokens)


def _run(tokens: Sequence[str]) -> int:
    app = tree()
    command, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    if command != app.help_print:
        from perdure.surfaces.cli.logs import log_to_stderr

        log_to_stderr(verbose=verbosity(tokens) > 0)
    result: Any = command(*bound.args, **bound.kwargs)
    if inspect.iscoroutine(result):
        import asyncio

        result = asyncio.run(result)
    sys.stdout.flush()
    return int(result or Exit.DONE)


def _told(error: CycloptsError) -> str:
    """What is wrong with the line, without the names of our parameters where the user must give a word in a place."""
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.keyword is None:
        word = error.argument.name
        if not error.argument.field_info.is_keyword_only:
            word = word.removeprefix("--").upper()
        return f"`perdure {' '.join(error.command_chain or ())}` needs {word}"
    return str(error)


def _help_of(error: CycloptsError) -> str:
    chain = " ".join(error.command_chain or ())
    return f"see `perdure {chain} --help`" if chain else HELP


def _version() -> str:
    return f"perdure {__version__}"
