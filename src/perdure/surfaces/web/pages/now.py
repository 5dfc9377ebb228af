"""Now: whether all is well, on one screen."""

import asyncio
from collections.abc import Sequence

import msgspec

from perdure.domain.activity import Minute, time_to_drain
from perdure.domain.job import JobState
from perdure.domain.views import StatusView
from perdure.surfaces.cli.status import judge
from perdure.surfaces.web.charts import Spark, parts, spark
from perdure.surfaces.web.pages import observed
from perdure.surfaces.web.pages.frame import Content, Visit
from perdure.surfaces.web.text import number, span

SERIES = ("enqueued", "completed", "failed")
WORDS = {"ok": "All is well", "degraded": "Needs attention", "critical": "Work is standing still"}


async def now(visit: Visit) -> Content:
    """The view of the page."""
    status, queues, workers, groups, throughput, rates = await asyncio.gather(
        observed.status(visit),
        observed.queues(visit),
        observed.workers(visit),
        observed.groups(visit),
        observed.throughput(visit),
        observed.rates(visit),
    )
    state, reasons = judge(status, past=visit.as_of is not None)
    minutes = throughput.minutes
    return "now.html", {
        "state": state,
        "verdict": WORDS[state],
        "reasons": [reason[:1].upper() + reason[1:] for reason in reasons],
        "status": status,
        "figures": _figures(minutes),
        "tiles": _tiles(status),
        "bar": parts([(str(count.state), count.count) for count in status.counts or ()]),
        "counts": status.counts or (),
        "throughput": throughput,
        "points": points(minutes[:-1]),
        "queues": sorted(queues, key=lambda queue: queue.oldest_available_s or 0.0, reverse=True),
        "rates": rates,
        "drain": {
            queue.name: time_to_drain(
                queue.depths.get(JobState.AVAILABLE, 0),
                rates[queue.name].arriving,
                rates[queue.name].finishing,
            )
            for queue in queues
            if queue.name in rates
        },
        "workers": [view for view in workers if view.worker.state in {"active", "draining"}],
        "groups": groups,
    }


def points(minutes: Sequence[Minute]) -> str:
    """The chart's data: seconds since the epoch, and a list for each series."""
    return msgspec.json.encode(
        {
            "at": [int(minute.at.timestamp()) for minute in minutes],
            **{name: [getattr(minute, name) for minute in minutes] for name in SERIES},
        }
    ).decode()


def _figures(minutes: Sequence[Minute]) -> list[tuple[str, str, Spark]]:
    """Name, last whole minute in jobs per second, and the hour as a line."""
    whole = minutes[:-1] or minutes
    return [
        (
            name,
            number(getattr(whole[-1], name)) if whole else "0",
            spark([getattr(m, name) for m in whole], what=name),
        )
        for name in SERIES
    ]


def _tiles(status: StatusView) -> list[tuple[str, str, str, str]]:
    """Name, value, a further word, and the path that leads on."""
    waits = span(status.oldest_available_s) if status.oldest_available_s is not None else "–"
    live = f"{number(status.workers_active)} active"
    if status.workers_draining:
        live += f", {number(status.workers_draining)} draining"
    return [
        ("Longest wait", waits, "of a job that may start", "/queues"),
        ("Workers", number(status.workers_active), live, "/workers"),
        (
            "Dead letters",
            number(status.dead_letters, status.dead_letters_approximate),
            "gave up",
            "/dead-letters",
        ),
    ]
