"""Jobs: the filter, what matches, and what can be done with it."""

from collections.abc import Sequence

from perdure.domain.errors import InvalidInput, PastUnknown
from perdure.domain.filters import FAILED_STATES
from perdure.domain.job import JobState
from perdure.domain.views import CountView, JobPage
from perdure.surfaces.web.pages import observed
from perdure.surfaces.web.pages.frame import Content, Visit

LIMIT = 50
FACETS = (
    ("All", ""),
    ("Running", "state:running"),
    ("Available", "state:available"),
    ("Scheduled", "state:scheduled"),
    ("Pending", "state:pending"),
    ("Failed", "state:failed"),
    ("Retryable", "state:retryable"),
    ("Discarded", "state:discarded"),
    ("Cancelled", "state:cancelled"),
    ("Completed", "state:completed"),
)


async def jobs(visit: Visit) -> Content:
    """The view of the page; a filter that does not parse is shown with its fault, above no jobs."""
    text = visit.query.get("filter", "").strip()
    cursor = visit.query.get("cursor") or None
    found, fault, hint = JobPage(jobs=()), "", ""
    try:
        found = await visit.stores.read.jobs(text, limit=LIMIT, cursor=cursor, as_of=visit.as_of)
    except PastUnknown:
        raise
    except InvalidInput as error:
        fault, hint = error.why, error.next_step
    # Of the past the states are counted one job after the other: a list of jobs does not wait for that.
    counts = () if visit.as_of is not None else (await observed.status(visit)).counts or ()
    return "jobs.html", {
        "filter": text,
        "cursor": cursor,
        "found": found,
        "fault": fault,
        "hint": hint,
        "facets": [(label, facet, _count(facet, counts), facet == text) for label, facet in FACETS],
    }


def _count(facet: str, counts: Sequence[CountView]) -> tuple[int, bool] | None:
    """How many jobs a facet means, from the counts of the whole; None while those are not known."""
    if not counts:
        return None
    by_state = {count.state: count for count in counts}
    name = facet.removeprefix("state:")
    named = {"": tuple(JobState), "failed": tuple(FAILED_STATES)}
    found = [by_state[state] for state in named.get(name) or (JobState(name),) if state in by_state]
    return sum(count.count for count in found), any(count.approximate for count in found)
