"""A system with a history, and Qdrant's engine beside it, one process for all tests."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.domain.redaction import Redaction
from perdure.ports.execution_memory import Embedder
from perdure.runtime.vectors.finding import Found
from perdure.services.execution_memory import ExecutionMemory, Share
from perdure.stores.embeddings.hashing import HashingEmbedder
from perdure.stores.postgres.execution_memory import PostgresEndedAttempts
from perdure.stores.qdrant.executions import QdrantExecutions
from tests.support.database import Store, store_on
from tests.support.vectors import serving


@pytest.fixture(scope="session")
def qdrant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """Where vectors are served; collections are named after the system, so that tests do not meet."""
    with serving(tmp_path_factory.mktemp("vectors")) as (found, _):
        yield found


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with store_on(database_url) as store:
        await store.sql("UPDATE perdure.installation SET id = gen_random_uuid()")
        yield store


@asynccontextmanager
async def memory_of(
    store: Store, found: Found, *, embedder: Embedder | None = None, **share: Any
) -> AsyncIterator[ExecutionMemory]:
    vectors = QdrantExecutions(found.url, api_key=found.api_key)
    try:
        yield ExecutionMemory(
            PostgresEndedAttempts(store.database),
            vectors,
            embedder or HashingEmbedder(),
            Redaction(),
            Share(**share),
        )
    finally:
        await vectors.close()


@pytest.fixture
async def memory(store: Store, qdrant: Found) -> AsyncIterator[ExecutionMemory]:
    async with memory_of(store, qdrant, sample=1.0) as memory:
        yield memory
