"""Gauges of what works beside the jobs: how processes learn of work, this server's connections, memory, and the model in force."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from perdure.domain.errors import ExtraMissing, Unavailable
from perdure.domain.model import ModelState
from perdure.domain.views import WorkerView
from perdure.domain.worker import WorkerState
from perdure.runtime.wiring import Stores
from perdure.surfaces.web.live import Recent

KEPT_S = 15.0
PATIENCE_S = 0.5
LIVING = frozenset({WorkerState.ACTIVE, WorkerState.DRAINING})


async def of_parts(stores: Stores, workers: Sequence[WorkerView], recent: Recent) -> Iterable[Metric]:
    """The gauges; what is not set up, or cannot be asked, has none."""
    found = [_dispatch(workers), _pool(stores)]
    error, behind, beside = await asyncio.gather(
        recent.get("calibration", lambda: _in_time(_calibration(stores)), KEPT_S),
        recent.get("embedding backlog", lambda: _in_time(_backlog(stores)), KEPT_S),
        recent.get("stores beside", stores.beside, KEPT_S),
    )
    found.append(up({"postgresql": True, **beside}))
    if error is not None:
        text = "Expected calibration error of the model that predictions are made by, when it was judged."
        found.append(_gauge("perdure_prediction_calibration_error", text, error))
    if behind is not None:
        text = "Attempts that ended and are not remembered yet, up to a limit."
        found.append(_gauge("perdure_embedding_backlog", text, behind))
    return found


def up(stores: Mapping[str, bool]) -> Metric:
    """Which stores answer."""
    family = GaugeMetricFamily("perdure_store_up", "Whether a store answers.", labels=["store"])
    for name, answers in stores.items():
        family.add_metric([name], float(answers))
    return family


def _dispatch(workers: Sequence[WorkerView]) -> Metric:
    living = [view for view in workers if view.worker.state in LIVING]
    deaf = sum(view.deaf for view in living)
    all_of_them = sum(view.worker.processes for view in living)
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


async def _in_time(asking: Awaitable[float | None]) -> float | None:
    """What is found out soon; no part may keep all others from being told."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await asking
    except (TimeoutError, ExtraMissing, Unavailable):
        return None


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
    behind, _ = await (await stores.memory.service()).behind()
    return behind


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
