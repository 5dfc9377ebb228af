"""The pages about one thing, by its id."""

from typing import Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.params import FromPath

from perdure.surfaces.web.context import GivenIdentity, GivenStores, GivenWeb
from perdure.surfaces.web.pages.acting import VIEWING
from perdure.surfaces.web.pages.flows import flow_view
from perdure.surfaces.web.pages.frame import answer, marks, render, visit_of
from perdure.surfaces.web.pages.job import job_view


@get("/jobs/{job_id:uuid}", opt=VIEWING, include_in_schema=False)
async def one_job(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    job_id: FromPath[UUID],
) -> Response[str]:
    """One job."""
    visit = visit_of(request, web, stores, identity)
    template, shown = await job_view(job_id)(visit)
    return answer(render(visit, (template, {**shown, "marks": await marks(visit)})))


@get("/flows/{job_id:uuid}", opt=VIEWING, include_in_schema=False)
async def one_flow(
    request: Request[Any, Any, Any],
    web: GivenWeb,
    stores: GivenStores,
    identity: GivenIdentity,
    job_id: FromPath[UUID],
) -> Response[str]:
    """The flow that a job belongs to."""
    visit = visit_of(request, web, stores, identity)
    return answer(render(visit, await flow_view(job_id)(visit)))


HANDLERS = (one_job, one_flow)
