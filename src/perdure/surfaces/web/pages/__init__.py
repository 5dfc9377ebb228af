"""The dashboard: pages rendered here, readable without a script."""

from litestar.types import ControllerRouterHandler

from perdure.surfaces.web.assets import asset
from perdure.surfaces.web.pages import acting, alerts, runbooks, signing, snapshots, things
from perdure.surfaces.web.pages.frame import page
from perdure.surfaces.web.pages.watching import VIEWS, live


def handlers() -> list[ControllerRouterHandler]:
    """Every page."""
    shown = [page(path, view, view.__name__) for path, view in VIEWS.items()]
    return [
        *shown,
        *things.HANDLERS,
        *acting.HANDLERS,
        *alerts.HANDLERS,
        *runbooks.HANDLERS,
        *snapshots.HANDLERS,
        *signing.HANDLERS,
        live,
        asset,
    ]
