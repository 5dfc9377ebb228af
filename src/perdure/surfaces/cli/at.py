"""`perdure at`: any reading command, as of a moment."""

from collections.abc import Mapping
from typing import Annotated

from cyclopts import Parameter

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.options import moment

READING: Mapping[str, frozenset[str]] = {
    "job": frozenset({"list", "show"}),
    "queue": frozenset({"list", "show"}),
    "worker": frozenset({"list", "show"}),
    "dlq": frozenset({"list", "groups"}),
    "status": frozenset(),
}
"""The commands that can look back, each with its verbs."""


def at(time: str, *command: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Look back: answer a reading command as it would have been answered then.

    `perdure at 2h job list state:running` is the same as `perdure job list state:running --as-of 2h`. Moments are remembered
    about every second while a worker leads, for as long as history is kept.

    Parameters
    ----------
    time
        An ISO time (UTC unless it says otherwise), or how long ago (`2h`).
    command
        `job list`, `job show`, `queue list`, `queue show`, `worker list`, `worker show`, `dlq list`, `dlq groups` or `status`, with
        its own options.
    """
    from perdure.surfaces.cli.program import run

    moment(time, "time")
    noun, verb = (*command, "", "")[:2]
    if noun not in READING or (READING[noun] and verb not in READING[noun]):
        known = ", ".join(
            f"{noun} {verb}".strip() for noun, verbs in READING.items() for verb in sorted(verbs) or [""]
        )
        if not noun:
            raise InvalidOption(
                "command",
                f"what was at {time}?",
                next_step=f"add a command: `perdure at {time} status`, or {known}",
            )
        raise InvalidOption(
            "command", f"{f'{noun} {verb}'.strip()!r} does not look back", next_step=f"one of: {known}"
        )
    return run([*command, "--as-of", time])
