"""`perdure torture`: real processes and servers are broken in every way, and the promises are checked after each."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from perdure.domain.errors import InvalidOption
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_USUAL, Shown
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.tables import Column

if TYPE_CHECKING:
    from perdure.torture.run import Ran

app = App(
    name="torture",
    help="Break real workers and servers in every way, and check that every promise held.",
)

DOCUMENT = "perdure.torture/1"
COLUMNS = (
    Column("name", "SCENARIO"),
    Column("result", "RESULT"),
    Column("recovered_s", "WENT ON AFTER, s", right=True),
    Column("jobs", "JOBS", right=True),
    Column("took_s", "TOOK, s", right=True),
)


@dataclass(frozen=True, kw_only=True)
class Which:
    """What is played."""

    short: Annotated[bool, Parameter(negative="")] = False
    "Leave out the scenarios that take minutes; it ends within five minutes on two cores."
    flood: Annotated[bool, Parameter(negative="")] = False
    "In place of the others: more of everything at full size, ten million jobs among it; it takes an hour and 20 GB of disk."
    minutes: float | None = None
    "In place of single scenarios: so many minutes of mixed faults under a load that never ends."
    only: str | None = None
    "Names of scenarios, separated by commas."
    seed: int = 1
    "What chance decides; the same seed draws the same faults."
    at_once: int = 1
    "Scenarios that are played at the same time, each on servers of its own."
    recorded: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = ()
    "Play nothing, and tell of a run that was kept with `--json`; may be given several times, the last one is shown."

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise InvalidOption("at_once", f"{self.at_once} is less than one scenario")
        if self.minutes is not None and self.minutes <= 0:
            raise InvalidOption("minutes", f"{self.minutes:g} is no time at all")


ALL = Which()


@app.default
def torture(
    *,
    which: Annotated[Which, Parameter(name="*")] = ALL,
    report: Path | None = None,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Break real workers, PostgreSQL and Redis in every way, and check after each that every promise held.

    It starts its own servers in temporary folders and touches no others. The exit code is 0 only if all held.
    Scenarios that only root can produce are left out for others, and it is said so.

    Parameters
    ----------
    report
        Write what was measured into this page, in the place of what was measured before.
    """
    from perdure.torture.report import write_report

    runs = [_recorded(file) for file in which.recorded] or [_played(which)]
    if report is not None:
        write_report(report, runs)
    ran = runs[-1]
    _show(ran, shown)
    return Exit.DONE if all(one.ok for one in runs) else Exit.FAILED


@app.command
def health(
    *,
    runs: int = 2,
    short: Annotated[bool, Parameter(negative="")] = False,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Have real workers decay in known ways beside sound ones, and measure what is foretold of them; needs numpy (extra `ml`).

    A leak of memory, jobs that fail more and more, jobs that slow down, a loop that is blocked, a SIGKILL without warning. Half of the runs are
    learnt from, and the model is asked about the others. The exit code is 0 if no job was lost or done twice with effect, and no kill was foretold.

    Parameters
    ----------
    runs
        How many runs, one after the other; one takes about two minutes, and two or more are needed to learn.
    short
        Faults that take half a minute to grow, in place of a whole one.
    """
    from perdure.torture.decay_run import run_decay

    if runs < 1:
        raise InvalidOption(
            "runs", f"{runs} is less than one run", next_step="give 1 or more; ten tell something"
        )
    ran = run_decay(runs=runs, short=short, say=tell)
    show_one("perdure.torture_health/1", {"ok": ran.ok, **record_of(ran)}, shown, key="ok")
    return Exit.DONE if ran.ok else Exit.FAILED


def _played(which: Which) -> "Ran":
    from perdure.torture.run import chosen, run, run_mixed

    if which.minutes is not None:
        return run_mixed(seed=which.seed, minutes=which.minutes, say=tell)
    return run(
        chosen(which.only, short=which.short, flood=which.flood),
        seed=which.seed,
        at_once=which.at_once,
        say=tell,
    )


def _recorded(file: Path) -> "Ran":
    import msgspec

    from perdure.torture.run import Ran

    try:
        document = msgspec.json.decode(file.read_bytes())
        known = {name: document[name] for name in Ran.__dataclass_fields__ if name in document}
        return msgspec.convert(known, Ran)
    except (OSError, msgspec.MsgspecError, TypeError) as error:
        step = "name a file that `perdure torture --json` has written"
        raise InvalidOption("recorded", f"{file} holds no run: {error}", next_step=step) from None


def _show(ran: "Ran", shown: Shown) -> None:
    if shown.format in {"json", "ndjson"}:
        show_one(DOCUMENT, {"ok": ran.ok, **record_of(ran)}, shown, key="ok")
        return
    show_list(
        Listing(schema=DOCUMENT, item="perdure.scenario/1", columns=COLUMNS, records=_rows(ran), key="name"),
        shown,
    )


def _rows(ran: "Ran") -> list[Record]:
    if ran.mixed is not None:
        return [
            {"name": name, "result": f"struck {len(times)} times", "recovered_s": round(max(times), 1)}
            for name, times in sorted(ran.mixed.recovered_s.items())
        ]
    return [
        {
            "name": one.name,
            "result": "left out" if one.skipped else "holds" if one.ok else "BROKEN",
            "recovered_s": None if one.recovered_s is None else round(one.recovered_s, 1),
            "jobs": one.jobs,
            "took_s": round(one.took_s),
        }
        for one in ran.scenarios
    ]
