"""`perdure worker predict` and `worker health`: what will become of a worker, and how well it is."""

from datetime import timedelta

from perdure.domain.durations import parse_duration
from perdure.services.foresee import Outlook
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, ONCE, Connection, Shown, Watch
from perdure.surfaces.cli.output import Listing, show_list, show_one
from perdure.surfaces.cli.records import Record
from perdure.surfaces.cli.repeat import repeated
from perdure.surfaces.cli.session import opened
from perdure.surfaces.cli.tables import Column

COLUMNS = (
    Column("worker_id", "WORKER"),
    Column("name", "NAME"),
    Column("health", "HEALTH", right=True),
    Column("healthy", "HEALTHY"),
    Column("share", "SHARE", right=True),
    Column("load", "LOAD", right=True),
    Column("suspect", "SUSPECT"),
)


async def predict(
    worker: str, *, horizon: str = "5m", connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Tell whether and when a worker will fail, why, and what to do.

    The probability is of a failure within the horizon; of the time to it the median and the bounds that hold 80 % are given, empty
    beyond a week. A prediction is a reason to move work away cheaply, not to kill.

    Parameters
    ----------
    worker
        Its id or its name.
    horizon
        The time that is looked ahead, at most 7 days.
    """
    ahead = parse_duration(horizon, "horizon")
    async with opened(connection) as stores:
        found = await stores.read.worker(worker)
        outlook = await stores.foresee.outlook(found.worker.id, horizon=ahead)
    show_one("perdure.prediction/1", _prediction(outlook), shown, key="worker_id")


async def health(
    worker: str | None = None,
    *,
    watch: Watch = ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Show how well all workers are, or one with what its score is made of: 1.0 is as well as any, 0.3 the point to evacuate.

    Parameters
    ----------
    worker
        Its id or its name.
    """
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            if worker is not None:
                found = await stores.read.worker(worker)
                outlook = await stores.foresee.outlook(found.worker.id)
                show_one("perdure.health/1", _health(outlook), shown, key="worker_id")
                continue
            show_list(
                Listing(
                    schema="perdure.healths/1",
                    item="perdure.health/1",
                    columns=COLUMNS,
                    records=[
                        {
                            "worker_id": one.worker.id,
                            "name": one.worker.name,
                            "health": round(one.health, 3),
                            "healthy": one.healthy,
                            "share": round(one.share, 2),
                            "load": round(one.worker.load, 2),
                            "suspect": one.suspect,
                        }
                        for one in await stores.vitals.living()
                    ],
                    key="worker_id",
                ),
                shown,
            )


def _prediction(outlook: Outlook) -> Record:
    found = outlook.prediction
    return {
        "worker_id": found.worker_id,
        "name": outlook.vitals.worker.name,
        "method": found.method,
        "horizon_s": found.horizon.total_seconds(),
        "probability": round(found.probability, 6),
        "base": round(found.base, 6),
        "action": found.action,
        "median_s": _seconds(found.median),
        "low_s": _seconds(found.low),
        "high_s": _seconds(found.high),
        "reasons": [f"{one.what} (without it: {one.probability_without:.2%})" for one in found.reasons],
        "samples": found.samples,
        "failures": found.failures,
        "caution": found.caution,
        "trend_probability": round(outlook.trend.probability, 3),
        "trend_action": outlook.trend.action,
    }


def _health(outlook: Outlook) -> Record:
    vitals = outlook.vitals
    return {
        "worker_id": vitals.worker.id,
        "name": vitals.worker.name,
        "health": outlook.score.value,
        "healthy": vitals.healthy,
        "share": round(vitals.share, 2),
        "load": round(vitals.worker.load, 2),
        "suspect": vitals.suspect,
        "parts": [f"{part.what}: -{part.takes:.3f}" for part in outlook.score.parts],
        "scores": [round(score, 3) for score in vitals.scores],
        "action": outlook.prediction.action,
    }


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else round(time.total_seconds(), 1)
