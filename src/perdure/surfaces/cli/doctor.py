"""`perdure doctor`: looks at settings, servers and tables, and says what to do about what is wrong."""

from perdure.domain.diagnosis import Verdict, worst
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, Connection, Shown
from perdure.surfaces.cli.output import Listing, show_list
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.tables import Column

COLUMNS = (
    Column("verdict", ""),
    Column("check", "CHECK"),
    Column("found", "FOUND"),
    Column("next_step", "NEXT", "yellow"),
)
EXITS = {Verdict.OK: Exit.DONE, Verdict.WARN: Exit.DEGRADED, Verdict.BAD: Exit.CRITICAL}


async def doctor(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> Exit:
    """Find and explain what is set up wrongly; exit code 0 when nothing, 10 with warnings, 11 when something is bad."""
    from perdure.surfaces.cli.examination import examine

    lines = await examine(connection)
    records = [record_of(line) for line in lines]
    show_list(
        Listing(
            schema="perdure.diagnosis/1",
            item="perdure.finding/1",
            columns=COLUMNS,
            records=records,
            key="check",
        ),
        shown,
    )
    return EXITS[worst(lines)]
