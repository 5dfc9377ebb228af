"""Keep the tables fit: partitions ahead of time, nothing kept for longer than agreed, few dead rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from perdure.ports import Keeping

BATCH = 5_000
BATCHES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepReport:
    """What one round did, and by partition why something was left undone.

    `missing` are partitions that should be there, `kept` aged ones that something refers to, `postponed` aged ones
    that could not be locked.
    """

    made: Sequence[str]
    missing: Mapping[str, str]
    dropped: Sequence[str]
    kept: Mapping[str, str]
    postponed: Mapping[str, str]
    edges: int
    unique_keys: int
    cancel_requests: int
    progress: int
    shared_memory: int
    workers: int
    vacuumed: Sequence[str]


class Upkeep:
    """Makes partitions, drops aged ones, and sweeps away what has lost its job."""

    def __init__(self, keeping: Keeping, *, ahead_days: int, retention: timedelta) -> None:
        self._keeping = keeping
        self._ahead_days = ahead_days
        self._retention = retention

    async def run_once(self) -> UpkeepReport:
        """One round; what is too much for it is left to the next.

        The sweeps come before the drops, so that a stale row does not keep a whole day.
        """
        vacuumed = await self._keeping.vacuum()
        made = await self._keeping.make_partitions(ahead_days=self._ahead_days)
        unique_keys = await _swept(self._keeping.sweep_unique_keys)
        cancel_requests = await _swept(self._keeping.sweep_cancel_requests)
        progress = await _swept(self._keeping.sweep_progress)
        dropped = await self._keeping.drop_partitions(older_than=self._retention)
        return UpkeepReport(
            made=made.done,
            missing=made.postponed,
            dropped=dropped.done,
            kept=dropped.kept,
            postponed=dropped.postponed,
            edges=await _swept(self._keeping.sweep_edges),
            unique_keys=unique_keys,
            cancel_requests=cancel_requests,
            progress=progress,
            shared_memory=await _swept(self._keeping.sweep_shared_memory),
            workers=await self._keeping.forget_workers(older_than=self._retention),
            vacuumed=vacuumed,
        )


class _Sweep(Protocol):
    async def __call__(self, *, limit: int) -> int: ...


async def _swept(sweep: _Sweep) -> int:
    swept = 0
    for _ in range(BATCHES):
        batch = await sweep(limit=BATCH)
        swept += batch
        if batch < BATCH:
            break
    return swept
