"""What a measurement ran on: figures mean little without it."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from perdure.bench.effort import Effort
from perdure.runtime.settings import Settings
from perdure.stores.postgres.measures import PostgresMeasures

GIB = 2**30
PACKAGES = ("perdure", "asyncpg", "msgspec", "uvloop", "redis", "hiredis")
SERVER = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
    "max_connections",
)
OURS = (
    "concurrency",
    "prefetch_max",
    "prefetch_ms",
    "unsettled_max",
    "poll_interval_s",
    "heartbeat_interval_s",
)


def machine() -> Mapping[str, object]:
    """The machine of the clients, and how busy it is before anything is measured."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "load_before": round(psutil.getloadavg()[0], 2),
    }


async def versions_and_settings(
    measures: PostgresMeasures, settings: Settings, effort: Effort
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """The versions of everything, and the settings of both sides and of the measurement itself."""
    server = dict(await measures.server(SERVER))
    versions = {
        "python": platform.python_version(),
        "postgresql": server.pop("server_version", ""),
        **{name: _version(name) for name in PACKAGES},
    }
    ours = {name: getattr(settings, name) for name in OURS}
    measured = {name: getattr(effort, name) for name in Effort.__dataclass_fields__}
    measured["checkpoints"] = await measures.may_checkpoint()
    return versions, {"postgresql": server, "worker": ours, "measured": measured}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
