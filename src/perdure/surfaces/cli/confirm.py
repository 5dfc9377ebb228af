"""Asks before something is done that cannot be undone, or is done to many."""

import signal
import sys

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.output import tell


def confirm(count: int, effect: str, *, yes: bool, one: str = "") -> None:
    """Let through `--yes` or, on a terminal, the count typed back. `one` says the effect of a single one. Raises InvalidOption otherwise."""
    if yes or count == 0:
        return
    effect = one if count == 1 and one else effect
    if not sys.stdin.isatty():
        raise InvalidOption(
            "yes",
            f"{count} {effect}, and nobody can be asked here",
            next_step="add --yes, or --dry-run to see them",
        )
    tell(f"{count} {effect}.")
    if _answer(f"Type {count} to go on: ") != str(count):
        raise InvalidOption("yes", "the count was not typed, so nothing was done")


def _answer(question: str) -> str:
    """The line that is typed. Ctrl-C ends the command from the question on: an event loop would only note it, and read on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(question)
        sys.stderr.flush()
        return sys.stdin.readline().strip()
    finally:
        signal.signal(signal.SIGINT, before)
