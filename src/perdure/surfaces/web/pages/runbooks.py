"""Runbooks: what to do about each alert, with the values of the one that fires filled in."""

from typing import Any

from litestar import Request, Response, get
from litestar.params import FromPath

from perdure.domain.alerts import BY_NAME, RULES, AlertState
from perdure.domain.alerts.runbooks import Section
from perdure.surfaces.runbooks import runbook
from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.pages.acting import VIEWING
from perdure.surfaces.web.pages.frame import Content, Visit, answer, render, visit_of

TARGET_LONGEST = 200


async def runbooks(visit: Visit) -> Content:
    """The view of the list: each rule, and which of its alerts fire now."""
    page = await visit.web.recent.get("alerts", visit.stores.alerts.page)
    firing = [alert for alert in page.alerts if alert.state is AlertState.FIRING]
    return "runbooks.html", {
        "rules": [
            (rule, runbook(rule.name), [alert for alert in firing if alert.rule == rule.name])
            for rule in RULES
        ],
        "meaning": Section.MEANING,
    }


@get("/runbooks/{rule:str}", opt=VIEWING, include_in_schema=False)
async def one_runbook(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    rule: FromPath[str],
) -> Response[str]:
    """One runbook. Raises NotFound."""
    visit = visit_of(request, web, stores, identity)
    target = visit.query.get("target", "")[:TARGET_LONGEST]
    book = runbook(rule, target)
    shown = {"book": book, "rule": BY_NAME[rule], "target": target}
    return answer(render(visit, ("runbook.html", shown)))


HANDLERS = (one_runbook,)
