"""`perdure model`: the models that foretell failures of workers."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from perdure.domain.errors import InvalidOption, NotFound
from perdure.domain.model import Model, ModelState
from perdure.ports import By
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, CAREFUL, Caution, Connection, Shown
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.session import opened
from perdure.surfaces.cli.tables import Column

app = App(name="model", help="See, train, compare, promote and roll back the models that foretell failures.")

COLUMNS = (
    Column("id", "MODEL", right=True),
    Column("state", "STATE"),
    Column("since", "SINCE"),
    Column("kind", "KIND"),
    Column("failures", "FAILURES", right=True),
    Column("moments", "MOMENTS", right=True),
    Column("area", "AREA", right=True),
    Column("skill", "SKILL", right=True),
    Column("error", "ERROR", right=True),
    Column("why", "WHY"),
)
ONE = "perdure.model/1"


@app.command(name="list")
async def list_(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """List the trained models, the newest first, with how they stood on history that they had not seen.

    Without a champion, predictions are made by limits. Area: under precision and recall. Skill: the share of the base rate's
    log-loss that is saved. Error: how far what is said lies from what comes true.
    """
    async with opened(connection) as stores:
        models = await stores.models.list()
        looked_at, found = await stores.models.found()
    if looked_at is not None:
        tell(f"looked after on {looked_at:%Y-%m-%d %H:%M:%S}: {found or 'not finished'}")
    show_list(
        Listing(
            schema="perdure.models/1",
            item=ONE,
            columns=COLUMNS,
            records=[_row(one) for one in models],
            key="id",
        ),
        shown,
    )


@app.command
async def show(model: int, *, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """Show one model: what it learnt from, how it stood, and why it does what it does.

    Parameters
    ----------
    model
        Its number.
    """
    async with opened(connection) as stores:
        found = await stores.models.show(model)
    show_one(ONE, record_of(found), shown, key="id")


@app.command
async def train(
    *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Train a model on the history that is kept, and judge it by the newest part of it; takes seconds.

    It goes into the shadow when it was surely better than what is in force; any other stays a candidate and says what it lacks.
    The leader does the same by itself. Exit code 4 when too few failures are known.
    """
    _no_dry_run(caution)
    async with opened(connection) as stores:
        found = await stores.models.train(_by(caution))
    show_one(ONE, record_of(found), shown, key="id")


@app.command
async def evaluate(
    model: int | None = None, *, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Judge a model by all that happened after what it learnt from, beside the prediction without a model.

    Parameters
    ----------
    model
        Its number; by default the champion's.
    """
    async with opened(connection) as stores:
        number = model or _champion(await stores.models.list())
        found = await stores.models.evaluate(number)
    record = {"id": found.model.id, "state": found.model.state, **record_of(found)}
    del record["model"]
    show_one("perdure.evaluation/1", record, shown, key="id")


@app.command
async def promote(
    model: int,
    *,
    force: Annotated[bool, Parameter(negative="")] = False,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Have predictions be made by a model at once, without its time in the shadow. One that was changed or is foreign is refused.

    Parameters
    ----------
    model
        Its number.
    force
        Even if it was not surely better than what is in force.
    """
    _no_dry_run(caution)
    async with opened(connection) as stores:
        found = await stores.models.promote(model, _by(caution), force=force)
    show_one(ONE, record_of(found), shown, key="id")


@app.command
async def rollback(
    *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Go back to the champion before, or to predictions without a model where there was none."""
    _no_dry_run(caution)
    async with opened(connection) as stores:
        champion = await stores.models.rollback(_by(caution))
    show_one(
        "perdure.champion/1",
        {"champion": champion, "method": "limits" if champion is None else f"model {champion}"},
        shown,
        key="champion",
    )


def _row(model: Model) -> Record:
    quality = model.facts.get("quality")
    measured = quality if isinstance(quality, dict) else {}
    return {**record_of(model), **{name: measured.get(name) for name in ("area", "skill", "error")}}


def _champion(models: Sequence[Model]) -> int:
    for model in models:
        if model.state is ModelState.CHAMPION:
            return model.id
    raise NotFound("champion", "among the models", next_step="name a model: perdure model evaluate NUMBER")


def _no_dry_run(caution: Caution) -> None:
    if caution.dry_run:
        raise InvalidOption(
            "dry_run", "there is nothing to show before", next_step="see `perdure model list`"
        )


def _by(caution: Caution) -> By:
    return By(actor=caution.actor, reason=caution.reason)
