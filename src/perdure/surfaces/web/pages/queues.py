"""Queues: what waits, for how long, how fast it goes, and when it will be done."""

import asyncio

from perdure.domain.activity import QueueRate, time_to_drain
from perdure.domain.job import JobState
from perdure.surfaces.web.pages import observed
from perdure.surfaces.web.pages.frame import Content, Visit

LANES_SHOWN = 12


async def queues(visit: Visit) -> Content:
    """The view of the page."""
    found, rates = await asyncio.gather(observed.queues(visit), observed.rates(visit))
    still = QueueRate(queue="", arriving=0, finishing=0, failing=0)
    shown = []
    for queue in found:
        rate = rates.get(queue.name, still)
        depth = queue.depths.get(JobState.AVAILABLE, 0)
        shown.append(
            {
                "queue": queue,
                "rate": rate,
                "depth": depth,
                "drain": None if queue.paused else time_to_drain(depth, rate.arriving, rate.finishing),
                "lanes": sorted(queue.lanes, key=lambda lane: -lane.available)[:LANES_SHOWN],
            }
        )
    return "queues.html", {"queues": shown}
