"""The workers of the demonstration: started here, called w1, w2 … in its story, and stopped at its end."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID

from perdure import Perdure
from perdure.runtime.operations import SpawnedWorker, WorkerConfig

WORKER_LOG = "worker.log"
BOUND: Mapping[str, object] = {"drain_timeout_s": 5.0, "model_training": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A worker and its name in the story; `title` has that of its row as well."""

    name: str
    worker: SpawnedWorker

    @property
    def id(self) -> UUID:
        return self.worker.worker_id

    @property
    def title(self) -> str:
        return f"{self.name} ({socket.gethostname()}-{self.worker.process.pid})"


class Fleet:
    """Starts workers; all that still run are stopped when it is left."""

    def __init__(self, app: Perdure, work: Path) -> None:
        self._app = app
        self._log = work / WORKER_LOG
        self._log.unlink(missing_ok=True)
        self._members: list[Member] = []
        self._started = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        running = [one for one in self._members if one.worker.process.returncode is None]
        await asyncio.gather(*(one.worker.stop() for one in running))

    async def start(self, release: str, settings: Mapping[str, object]) -> Member:
        """Start a worker for the jobs of a module, and wait until it is ready. Raises Conflict when it ends before that."""
        self._started += 1
        name = f"w{self._started}"
        config = WorkerConfig(app=release, settings={**BOUND, **settings}, log=self._log, bound=True)
        member = Member(name=name, worker=await self._app.workers.spawn(config))
        self._members.append(member)
        return member
