"""`perdure worker cordon`, `uncordon` and `evacuate`: keep work from a worker, move it away."""

from typing import Annotated

from cyclopts import Parameter

from perdure.domain.durations import parse_duration
from perdure.domain.evacuation import Evacuation
from perdure.ports import By
from perdure.services.evacuate import Terms
from perdure.surfaces.cli.confirm import confirm
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, CAREFUL, Caution, Connection, Shown
from perdure.surfaces.cli.output import show_one, tell
from perdure.surfaces.cli.session import opened


async def cordon(
    worker: str, *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Have a worker take nothing new; what it runs goes on.

    Parameters
    ----------
    worker
        Its id or its name.
    """
    await _switch("cordon", worker, caution, connection, shown)


async def uncordon(
    worker: str, *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Let a cordoned worker take new work again.

    Parameters
    ----------
    worker
        Its id or its name.
    """
    await _switch("uncordon", worker, caution, connection, shown)


async def evacuate(
    worker: str,
    *,
    grace: str = "30s",
    at_once: Annotated[int, Parameter(name="--at-once")] = 1,
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Move the jobs of a worker to others, and have it end; `--dry-run` tells where they can go.

    Jobs that have not started go at once. What runs has the grace to end and is then given back; no attempt is burnt. A
    worker that cannot be reached loses its jobs after that.

    Parameters
    ----------
    worker
        Its id or its name.
    grace
        The time that running jobs have to end.
    at_once
        How many workers may be evacuated at the same time.
    """
    terms = Terms(grace=parse_duration(grace, "grace"), at_once=at_once, dry_run=True)
    by = By(actor=caution.actor, reason=caution.reason)
    async with opened(connection) as stores:
        worker_id = (await stores.read.worker(worker)).worker.id
        plan = await stores.evacuate.evacuate(worker_id, by, terms)
        if plan.stranded:
            tell(
                f"warning: {plan.stranded} of {plan.jobs} jobs will wait: no other worker takes them just now"
            )
        if not caution.dry_run:
            confirm(
                plan.jobs,
                f"jobs of {plan.worker} will be moved",
                yes=caution.yes,
                one=f"job of {plan.worker} will be moved",
            )
            terms = Terms(grace=terms.grace, at_once=at_once)
            plan = await stores.evacuate.evacuate(worker_id, by, terms)
    show_one("perdure.evacuation/1", _record(plan), shown, key="worker_id")


async def _switch(verb: str, worker: str, caution: Caution, connection: Connection, shown: Shown) -> None:
    by = By(actor=caution.actor, reason=caution.reason)
    async with opened(connection) as stores:
        view = await stores.read.worker(worker)
        changed = False
        if not caution.dry_run:
            act = stores.evacuate.cordon if verb == "cordon" else stores.evacuate.uncordon
            changed = await act(view.worker.id, by)
    record = {"worker_id": view.worker.id, "verb": verb, "dry_run": caution.dry_run, "changed": changed}
    show_one("perdure.cordon/1", record, shown, key="worker_id")


def _record(plan: Evacuation) -> dict[str, object]:
    return {
        "worker_id": plan.worker_id,
        "worker": plan.worker,
        "grace_s": plan.grace.total_seconds(),
        "dry_run": plan.dry_run,
        "changed": plan.changed,
        "jobs": plan.jobs,
        "stranded": plan.stranded,
        "moves": [
            f"{move.jobs} {move.kind} of {move.queue} to {', '.join(move.destinations) or 'nobody yet'}"
            for move in plan.moves
        ],
    }
