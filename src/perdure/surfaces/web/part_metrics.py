"""Gauges of what works beside the jobs: how processes learn of work, this server's connections, memory, and the model in force."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from perdure.domain.errors import ExtraMissing, Unavailable
from perdure.domain.model import ModelState
from perdure.domain.views import WorkerView
from perdure.runtime.wiring import Stores
from perdure.surfaces.web.live import Recent

KEPT_S = 15.0


async def of_parts(stores: Stores, workers: Sequence[WorkerView], recent: Recent) -> Iterable[Metric]:
    """The gauges; what is not set up, or cannot be asked, has none."""
    found = [_dispatch(workers), _pool(stores)]
    error = await recent.get("calibration", lambda: _calibration(stores), KEPT_S)
    if error is not None:
        text = "Expected calibration error of the model that predictions are made by, when it was judged."
        found.append(_gauge("perdure_prediction_calibration_error", text, error))
    behind = await recent.get("embedding backlog", lambda: _backlog(stores), KEPT_S)
    if behind is not None:
        text = "Attempts that ended and are not remembered yet, up to a limit."
        found.append(_gauge("perdure_embedding_backlog", text, behind))
    return found


def _dispatch(workers: Sequence[WorkerView]) -> Metric:
    deaf = sum(view.deaf for view in workers)
    all_of_them = sum(view.worker.processes for view in workers)
    family = GaugeMetricFamily(
        "perdure_dispatch_mode",
        "Processes of living workers, by how they learn of new jobs: told at once, or by asking alone.",
        labels=["mode"],
    )
    family.add_metric(["notify"], max(0, all_of_them - deaf))
    family.add_metric(["poll"], deaf)
    return family


def _pool(stores: Stores) -> Metric:
    family = GaugeMetricFamily(
        "perdure_db_pool", "Connections that this server shares among its answers.", labels=["state"]
    )
    for state, connections in stores.database.connections.items():
        family.add_metric([state], connections)
    return family


async def _calibration(stores: Stores) -> float | None:
    for model in await stores.models.list():
        if model.state is ModelState.CHAMPION:
            quality = model.facts.get("quality")
            error = quality.get("error") if isinstance(quality, dict) else None
            return error if isinstance(error, float) else None
    return None


async def _backlog(stores: Stores) -> int | None:
    if not stores.memory.wanted:
        return None
    try:
        behind, _ = await (await stores.memory.service()).behind()
    except (ExtraMissing, Unavailable):
        return None
    return behind


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
