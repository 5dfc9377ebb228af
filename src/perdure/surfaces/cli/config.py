"""`perdure config`: the settings and where they come from."""

from cyclopts import App

from perdure.domain.errors import InvalidSettings
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, Connection, Shown
from perdure.surfaces.cli.output import Listing, show_list, tell
from perdure.surfaces.cli.session import settings_of
from perdure.surfaces.cli.tables import Column

app = App(name="config", help="See the settings and where they come from.")

COLUMNS = (Column("name", "SETTING"), Column("value", "VALUE"), Column("source", "FROM"))
PROBLEM_COLUMNS = (Column("field", "SETTING"), Column("why", "WHY", "red"), Column("next_step", "NEXT"))


@app.command
def show(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """Show every setting, its value with passwords masked, and where it comes from."""
    from perdure.runtime.settings import Settings, origins

    settings = settings_of(connection)
    records = [
        {
            "name": name,
            "value": origin.value,
            "source": origin.source,
            "description": Settings.model_fields[name].description or "",
        }
        for name, origin in origins(settings).items()
    ]
    for caution in settings.cautions:
        tell(f"warning: {caution}")
    show_list(
        Listing(
            schema="perdure.settings/1",
            item="perdure.setting/1",
            columns=COLUMNS,
            records=records,
            key="name",
        ),
        shown,
    )


@app.command
def check(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> Exit:
    """Say everything that is wrong with the settings; exit code 9 when something is."""
    from perdure.runtime.settings import load_problems

    problems = load_problems(connection.flags, connection.config)
    show_list(
        Listing(
            schema="perdure.problems/1",
            item="perdure.problem/1",
            columns=PROBLEM_COLUMNS,
            records=[_record(problem) for problem in problems],
            key="field",
        ),
        shown,
    )
    if problems:
        return Exit.CONFIG
    for caution in settings_of(connection).cautions:
        tell(f"warning: {caution}")
    tell("the settings can be used")
    return Exit.DONE


def _record(problem: InvalidSettings) -> dict[str, str]:
    return {"field": problem.field, "why": problem.why, "next_step": problem.next_step}
