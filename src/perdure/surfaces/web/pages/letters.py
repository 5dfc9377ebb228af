"""Dead letters: what gave up, by cause, and its replay."""

import asyncio

from perdure.domain.errors import InvalidInput, PastUnknown
from perdure.domain.views import DeadLetterPage, GroupView
from perdure.surfaces.web.pages.frame import Content, Visit

LIMIT = 50


async def letters(visit: Visit) -> Content:
    """The view of the page; a filter that does not parse is shown with its fault."""
    text = visit.query.get("filter", "").strip()
    cursor = visit.query.get("cursor") or None
    groups: tuple[GroupView, ...] = ()
    found, fault, hint = DeadLetterPage(letters=()), "", ""
    read = visit.stores.read
    try:
        groups, found = await asyncio.gather(
            read.groups(text, limit=LIMIT, as_of=visit.as_of),
            read.dead_letters(text, limit=LIMIT, cursor=cursor, as_of=visit.as_of),
        )
    except PastUnknown:
        raise
    except InvalidInput as error:
        fault, hint = error.why, error.next_step
    return "letters.html", {
        "filter": text,
        "cursor": cursor,
        "groups": groups,
        "found": found,
        "fault": fault,
        "hint": hint,
        "total": sum(group.count for group in groups),
    }
