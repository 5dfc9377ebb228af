"""Workers over HTTP by somebody's will: cordon, uncordon, evacuate, and what is to be expected of one."""

from uuid import UUID

from litestar.params import FromPath, JSONBody

from perdure.domain.access import Permission
from perdure.domain.durations import parse_duration
from perdure.domain.evacuation import Evacuation
from perdure.domain.prediction import Prediction
from perdure.ports import By
from perdure.services.evacuate import Terms
from perdure.surfaces.web.api.answers import SwitchedAnswer
from perdure.surfaces.web.api.bodies import Acting, Evacuating
from perdure.surfaces.web.context import GivenIdentity, GivenStores
from perdure.surfaces.web.routing import acting, reading

TAG = "workers"


@acting(
    "/workers/{worker_id:uuid}/cordon", Permission.DRAIN, tag=TAG, summary="Have a worker take nothing new"
)
async def cordon_worker(
    stores: GivenStores, identity: GivenIdentity, worker_id: FromPath[UUID], data: JSONBody[Acting]
) -> SwitchedAnswer:
    by = By(actor=identity.name, reason=data.reason)
    changed = not data.dry_run and await stores.evacuate.cordon(worker_id, by)
    return SwitchedAnswer(worker_id=worker_id, changed=changed, dry_run=data.dry_run)


@acting(
    "/workers/{worker_id:uuid}/uncordon",
    Permission.DRAIN,
    tag=TAG,
    summary="Let a worker take new work again",
)
async def uncordon_worker(
    stores: GivenStores, identity: GivenIdentity, worker_id: FromPath[UUID], data: JSONBody[Acting]
) -> SwitchedAnswer:
    by = By(actor=identity.name, reason=data.reason)
    changed = not data.dry_run and await stores.evacuate.uncordon(worker_id, by)
    return SwitchedAnswer(worker_id=worker_id, changed=changed, dry_run=data.dry_run)


@acting(
    "/workers/{worker_id:uuid}/evacuate",
    Permission.DRAIN,
    tag=TAG,
    summary="Move a worker's jobs to others and have it end; a dry run tells where they can go",
)
async def evacuate_worker(
    stores: GivenStores, identity: GivenIdentity, worker_id: FromPath[UUID], data: JSONBody[Evacuating]
) -> Evacuation:
    terms = Terms(grace=parse_duration(data.grace, "grace"), at_once=data.at_once, dry_run=data.dry_run)
    return await stores.evacuate.evacuate(worker_id, By(actor=identity.name, reason=data.reason), terms)


@reading(
    "/workers/{worker_id:uuid}/prediction",
    tag=TAG,
    summary="Whether a worker will fail, and by what evidence",
)
async def predict_worker(stores: GivenStores, worker_id: FromPath[UUID]) -> Prediction:
    return (await stores.foresee.outlook(worker_id)).prediction


HANDLERS = (cordon_worker, uncordon_worker, evacuate_worker, predict_worker)
