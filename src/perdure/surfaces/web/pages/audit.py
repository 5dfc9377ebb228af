"""Audit: what was done to jobs, queues and workers, by whom and why."""

from perdure.domain.activity import EventChoice
from perdure.surfaces.web.pages.frame import Content, Visit

LIMIT = 100
NAMES_LONGEST = 200


async def audit(visit: Visit) -> Content:
    """The view of the page."""
    asked = {
        name: visit.query.get(name, "").strip()[:NAMES_LONGEST].replace("\0", "")
        for name in ("event", "actor", "queue")
    }
    cursor = visit.query.get("cursor") or None
    choice = EventChoice(
        event=asked["event"] or None, actor=asked["actor"] or None, queue=asked["queue"] or None
    )
    found = await visit.stores.activity.events(choice, limit=LIMIT, cursor=cursor, as_of=visit.as_of)
    return "audit.html", {"found": found, "asked": asked, "cursor": cursor}
