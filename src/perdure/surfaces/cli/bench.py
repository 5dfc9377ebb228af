"""`perdure bench`: how fast Perdure is on this machine, beside the bare statements of the same server."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, Connection, Shown
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.session import settings_of
from perdure.surfaces.cli.tables import Column

if TYPE_CHECKING:
    from perdure.bench.figures import Figure
    from perdure.bench.rounds import Told

DOCUMENT = "perdure.bench/1"
COLUMNS = (
    Column("name", "FIGURE"),
    Column("value", "VALUE", right=True),
    Column("floor", "BARE STATEMENTS", right=True),
    Column("ratio", "RATIO", right=True),
    Column("unit", "UNIT"),
)


def bench(
    *,
    repeat: int | None = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    long: Annotated[bool, Parameter(negative="")] = False,
    only: str | None = None,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Measure enqueueing, draining, latency and memory, and bare statements on the same server beside them.

    It works in a schema of its own, `perdure_bench`, and drops it afterwards. Without a database in the settings it
    starts an embedded one. It takes minutes, and its figures mean something only on a machine that does nothing else:
    it loads the whole server, and has it make checkpoints where your role may ask for them.

    Parameters
    ----------
    repeat
        Rounds; each figure is the median of them. By default 3.
    quick
        One short round, to see that everything works; its figures mean nothing.
    long
        Also what takes hours: ten million jobs waiting, a history of ten million, a transaction that is held for ten
        minutes, a hundred queues, 50 and 100 worker processes (three connections for each).
    only
        Names of figures, separated by commas.
    """
    import asyncio

    from perdure.bench.effort import LONG, QUICK, THOROUGH
    from perdure.bench.rounds import REDIS, chosen, measure
    from perdure.bench.servers import servers
    from perdure.runtime.event_loop import quick_loop

    names = chosen(only, long=long)
    effort = QUICK if quick else LONG if long else THOROUGH
    if repeat is not None:
        if repeat < 1:
            raise InvalidOption("repeat", f"{repeat} is less than one round")
        effort = replace(effort, repeat=repeat)
    with (
        servers(settings_of(connection), tell, redis=REDIS in names) as settings,
        asyncio.Runner(loop_factory=quick_loop()) as runner,
    ):
        told = runner.run(measure(settings, names, effort, tell))
    _show(told, shown)
    return Exit.DONE


def _show(told: "Told", shown: Shown) -> None:
    if shown.format in {"json", "ndjson"}:
        show_one(DOCUMENT, record_of(told), shown, key="figures")
        return
    show_list(
        Listing(
            schema=DOCUMENT,
            item="perdure.figure/1",
            columns=COLUMNS,
            records=[*_rows(told.figures), *_rows(told.beside)],
            key="name",
        ),
        shown,
    )


def _rows(figures: Mapping[str, "Figure"]) -> list[Record]:
    return [{"name": name, **record_of(figure)} for name, figure in figures.items()]
