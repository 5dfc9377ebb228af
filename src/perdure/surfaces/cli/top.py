"""`perdure top`: the system on one screen that lives."""

import sys
from datetime import timedelta
from typing import Annotated, Literal

from cyclopts import Parameter

from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.extras import needing
from perdure.surfaces.cli.options import AS_SET, CAREFUL, NOW, PAGING, Connection, Moment
from perdure.surfaces.cli.session import located, settings_of

SHORTEST = timedelta(milliseconds=500)
NO_TERMINAL = "`perdure top` draws on a terminal, and {what}"
INSTEAD = "`perdure status --watch` says the same line by line, `perdure status --json` once for a program"

Lists = Literal["queues", "workers", "jobs", "letters", "alerts"]


async def top(
    *,
    list: Annotated[Lists, Parameter(name=["--list", "-l"], group=PAGING)] = "queues",
    filter: Annotated[str, Parameter(group=PAGING)] = "",
    every: str = "2s",
    read_only: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    moment: Moment = NOW,
    connection: Connection = AS_SET,
) -> int:
    """Show queues, workers, jobs, dead letters and alerts on one screen that lives; `q` quits.

    The line at the top is that of `perdure status`. Keys: `1` to `5` for the lists, `/` for a filter, `p` to pause or resume the
    queue under the cursor, `c` to cordon or uncordon the worker, `D` to drain it; each asks first. `[` and `]` go back and forth in
    time by a minute, `{` and `}` by an hour; less than a minute from the present it lives again. Needs the extra `top`.

    Parameters
    ----------
    list
        The list that it begins with.
    filter
        Jobs and dead letters that match, such as `state:failed kind:send*`; of other lists, rows with these words.
    every
        How often it looks.
    read_only
        Nothing can be changed from it.
    """
    pace = parse_duration(every, "every")
    if pace < SHORTEST:
        raise InvalidOption("every", "cannot be shorter than 500ms")
    _need_terminal()
    with needing("top"):
        from perdure.surfaces.terminal.application import Terms, Top, shown
    from perdure.runtime.wiring import connected
    from perdure.surfaces.terminal.rows import Tab
    from perdure.surfaces.terminal.scene import View

    view = View(tab=Tab[list.upper()], filter=filter.strip(), as_of=moment.at)
    terms = Terms(every=pace, actor=CAREFUL.actor, read_only=read_only)
    with located(settings_of(connection)) as settings:
        async with connected(settings, application_name="perdure top", redis=False) as stores:
            return await shown(Top(stores, view, terms))


def _need_terminal() -> None:
    """Refuse to draw where nobody would see it or could press a key. Raises InvalidOption."""
    from rich.console import Console

    streams = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    missing = [name for name, stream in streams.items() if stream is None or not stream.isatty()]
    if missing:
        what = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} none"
    elif Console().is_dumb_terminal:
        what = "the variable TERM says that this one can move no cursor"
    else:
        return
    raise InvalidOption("terminal", NO_TERMINAL.format(what=what), next_step=INSTEAD)
