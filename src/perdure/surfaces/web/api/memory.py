"""The memory of executions over HTTP: what is like a text or a job, what is remembered of a job, and how the memory stands."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from litestar.params import FromPath, Parameter

from perdure.domain.execution_memory import (
    ExecutionContext,
    MemoryStatus,
    SimilarExecution,
    Wanted,
    fixed_by,
    known_outcome,
)
from perdure.surfaces.web.context import GivenStores
from perdure.surfaces.web.routing import reading

TAG = "memory"
Text = Annotated[
    str,
    Parameter(description="What went wrong, in words or as an error message", min_length=1, max_length=4_000),
]
Maybe = Annotated[str | None, Parameter(min_length=1, max_length=200)]
Least = Annotated[float, Parameter(description="Only what is at least so alike", ge=0, le=1)]
Most = Annotated[int, Parameter(ge=1, le=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarAnswer:
    """A past execution, how alike it is (1: the same words), and what fixed it, in words."""

    similarity: float
    fixed_by: str
    execution: ExecutionContext

    @classmethod
    def of(cls, found: SimilarExecution) -> "SimilarAnswer":
        context = found.execution
        return cls(similarity=found.similarity, fixed_by=fixed_by(context), execution=context)


@reading("/executions/similar", tag=TAG, summary="Past executions that are like a text")
async def search_executions(
    stores: GivenStores,
    *,
    text: Text,
    kind: Maybe = None,
    outcome: Maybe = None,
    limit: Most = 10,
    least: Least = 0.0,
) -> list[SimilarAnswer]:
    wanted = Wanted(kind=kind or "", outcome=known_outcome(outcome) if outcome else "", least=least)
    service = await stores.memory.service()
    return [SimilarAnswer.of(each) for each in await service.search(text, wanted, limit=limit)]


@reading(
    "/jobs/{job_id:uuid}/similar", tag=TAG, summary="Executions of other jobs like this one's last failure"
)
async def similar_executions(
    stores: GivenStores, job_id: FromPath[UUID], limit: Most = 10, least: Least = 0.0
) -> list[SimilarAnswer]:
    service = await stores.memory.service()
    found = await service.similar(job_id, Wanted(least=least), limit=limit)
    return [SimilarAnswer.of(each) for each in found]


@reading(
    "/jobs/{job_id:uuid}/contexts", tag=TAG, summary="What is remembered of a job, the newest attempt first"
)
async def job_contexts(stores: GivenStores, job_id: FromPath[UUID]) -> list[ExecutionContext]:
    return list(await (await stores.memory.service()).contexts(job_id))


@reading("/memory", tag=TAG, summary="How the memory of executions stands")
async def memory_status(stores: GivenStores) -> MemoryStatus:
    return await (await stores.memory.service()).status()


HANDLERS = (search_executions, similar_executions, job_contexts, memory_status)
