"""The specification's operations on what is remembered of executions, by name, and the way to the shared memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from perdure.domain.execution_memory import ExecutionContext, MemoryStatus, SimilarExecution, Wanted
from perdure.services.execution_memory import NOTHING, ExecutionMemory
from perdure.services.shared_memory import SharedMemory

if TYPE_CHECKING:
    from perdure.runtime.app import Perdure


class MemoryOperations:
    """storeExecutionContext, retrieveExecutionContext, searchSimilarExecutions, findSimilarPatterns and their companions; a part of `app.state`."""

    def __init__(self, app: "Perdure") -> None:
        self._app = app

    async def shared_memory(self) -> SharedMemory:
        """The memory that workers and programs share, connected. Raises as `Perdure.stores` does."""
        return (await self._app.stores()).shared

    async def store_execution_context(self, job_id: UUID) -> Sequence[ExecutionContext]:
        """Remember the ended attempts of one job now, which the leader of the workers else does by itself.

        Raises NotFound and MemoryUnavailable.
        """
        return await (await self._memory()).store(job_id)

    async def execution_context(self, job_id: UUID) -> Sequence[ExecutionContext]:
        """What is remembered of a job, the newest attempt first. Raises MemoryUnavailable."""
        return await (await self._memory()).contexts(job_id)

    async def search_similar_executions(
        self, text: str, limit: int = 10, *, wanted: Wanted = NOTHING
    ) -> Sequence[SimilarExecution]:
        """The past executions that are most like a text. Raises InvalidOption and MemoryUnavailable."""
        return await (await self._memory()).search(text, wanted, limit=limit)

    async def similar_patterns(
        self, job_id: UUID, minimum: float = 0.7, *, limit: int = 10
    ) -> Sequence[SimilarExecution]:
        """Executions of other jobs that are at least so much like this job's last failure. Raises NotFound and MemoryUnavailable."""
        return await (await self._memory()).similar(job_id, Wanted(least=minimum), limit=limit)

    async def memory_status(self) -> MemoryStatus:
        """How much is remembered, where, by which embedder, and how far it is behind; of one that does not answer, why.

        Raises MemoryUnavailable where there is none.
        """
        return await (await self._memory()).status()

    async def rebuild_memory(self, *, fresh: bool = False) -> MemoryStatus:
        """Have the leader read the history from its beginning again; with `fresh` what is remembered is dropped first, also what history lacks by now.

        Raises MemoryUnavailable.
        """
        return await (await self._memory()).rebuild(fresh=fresh)

    async def _memory(self) -> ExecutionMemory:
        return await (await self._app.stores()).memory.service()
