"""Looks at an application before a worker starts for it: one that is broken is refused, and a queue left out is named."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.runtime.settings import Settings


async def unserved_queues(application: str, settings: "Settings") -> list[str]:
    """A warning where jobs of the application are enqueued on queues that a worker with these settings does not serve.

    The application is imported in a process of its own, which has the settings in its environment as those of the worker have.
    One that is not done in `start_timeout_s` is left to the worker, which says so of each of its processes. Raises BrokenApplication.
    """
    import asyncio

    from perdure.runtime.exported import exported
    from perdure.runtime.trial import try_out

    try:
        jobs = await asyncio.wait_for(try_out(application, exported(settings)), settings.start_timeout_s)
    except TimeoutError:
        return []
    left_out = [job for job in jobs if job.queue not in settings.queues]
    if not left_out:
        return []
    queues = dict.fromkeys([*settings.queues, *(job.queue for job in left_out)])
    more = f" (and {len(left_out) - 1} more kinds on such queues)" if left_out[1:] else ""
    first = f"{left_out[0].name} is enqueued on queue {left_out[0].queue}, which this worker does not serve"
    return [f"{first}{more}: --queues {','.join(queues)}"]
