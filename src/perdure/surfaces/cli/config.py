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
    from perdure.runtime.settings import Settings, load_problems
    from perdure.runtime.settings_sources import unknown_variables

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
    cautions = settings_of(connection).cautions
    for caution in cautions:
        tell(f"warning: {caution}")
    for name in unknown_variables(Settings):
        if not any(name in caution for caution in cautions):
            tell(
                f"warning: the environment has {name}, which is no setting; see `perdure config show` for all"
            )
    tell("the settings can be used")
    return Exit.DONE


def _record(problem: InvalidSettings) -> dict[str, str]:
    return {"field": problem.field, "why": problem.why, "next_step": problem.next_step}
