"""A word for whoever has just asked for a job to run that no worker would take."""

from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING
from uuid import UUID

from perdure.domain.errors import PerdureError
from perdure.domain.explain import Hold
from perdure.surfaces.cli.output import tell

if TYPE_CHECKING:
    from perdure.runtime.wiring import Stores


async def tell_if_unserved(stores: "Stores", job_id: UUID, kind: str = "") -> None:
    """Tell when no worker would take the job as things are; it is stored and waits. `kind` may be misspelt."""
    with suppress(PerdureError):
        for reason in (await stores.read.explain(job_id)).reasons:
            if reason.hold is Hold.UNSERVED:
                tell(f"warning: the job waits. {reason.sentence}{await _meant(stores, kind)}")


async def _meant(stores: "Stores", kind: str) -> str:
    kinds = {name for worker in await stores.workers.list(alive_only=True) for name in worker.kinds}
    near = get_close_matches(kind, kinds, n=1) if kind and kind not in kinds else []
    return f" Did you mean {near[0]}?" if near else ""
