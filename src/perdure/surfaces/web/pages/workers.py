"""Workers: who runs jobs, how full they are, and who has gone."""

import asyncio
from collections.abc import Sequence

from perdure.domain.views import WorkerView
from perdure.domain.worker import WorkerState
from perdure.surfaces.web.pages import observed
from perdure.surfaces.web.pages.frame import Content, Visit

LIVING = frozenset({WorkerState.ACTIVE, WorkerState.DRAINING})
ENDED_SHOWN = 20


async def workers(visit: Visit) -> Content:
    """The view of the page."""
    found: Sequence[WorkerView]
    found, outlooks = await asyncio.gather(observed.workers(visit), observed.outlooks(visit))
    living = [view for view in found if view.worker.state in LIVING]
    ended = [view for view in found if view.worker.state not in LIVING]
    return "workers.html", {
        "living": living,
        "outlooks": outlooks,
        "ended": ended[:ENDED_SHOWN],
        "more_ended": max(0, len(ended) - ENDED_SHOWN),
        "capacity": sum(view.worker.capacity for view in living),
        "running": sum(view.worker.running for view in living),
        "suspect": sum(view.suspect for view in living),
    }
