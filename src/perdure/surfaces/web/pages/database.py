"""Database: what threatens it, and who holds it up."""

from perdure.domain.pressure import OPEN_LONG_S, threats
from perdure.surfaces.web.pages.frame import Content, Visit


async def database(visit: Visit) -> Content:
    """The view of the page."""
    found = await visit.web.recent.get("pressure", visit.stores.pressure.read)
    return "database.html", {"found": found, "threats": threats(found), "long_s": OPEN_LONG_S}
