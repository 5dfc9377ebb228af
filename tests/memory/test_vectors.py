"""The server of a data folder's vectors: it speaks Qdrant's interface, keeps what it has answered, and says what it cannot."""

import asyncio
import signal
import stat
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from perdure.domain.errors import MemoryUnavailable
from perdure.domain.execution_memory import ExecutionContext, Wanted
from perdure.runtime.vectors.finding import Found, address_file, served
from perdure.runtime.vectors.serving import serving as started
from perdure.stores.embeddings.hashing import HashingEmbedder
from perdure.stores.qdrant.executions import QdrantExecutions
from tests.support.vectors import serving


def context(message: str = "boom") -> ExecutionContext:
    return ExecutionContext(
        token=uuid4(),
        job_id=uuid4(),
        run=1,
        attempt=1,
        kind="app.work",
        queue="default",
        outcome="failed",
        state="retryable",
        settled_at=1_900_000_000.5,
        embedder="hashing/1.1",
        labels=("gpu",),
        message=message,
    )


async def kept(found: Found, name: str, *contexts: ExecutionContext) -> None:
    vectors = QdrantExecutions(found.url, api_key=found.api_key)
    try:
        await vectors.prepare(name)
        embedded = HashingEmbedder().embed([each.message for each in contexts])
        await vectors.keep(name, list(zip(contexts, embedded, strict=True)))
    finally:
        await vectors.close()


async def all_of(found: Found, name: str, words: str = "boom") -> list[ExecutionContext]:
    vectors = QdrantExecutions(found.url, api_key=found.api_key)
    try:
        (vector,) = HashingEmbedder().embed([words])
        return [each.execution for each in await vectors.nearest(name, vector, Wanted(), limit=100)]
    finally:
        await vectors.close()


def test_what_was_answered_survives_a_kill_and_the_folder_has_one_owner(tmp_path: Path) -> None:
    one = context()
    with serving(tmp_path) as (found, process):
        assert stat.S_IMODE(address_file(tmp_path).stat().st_mode) == 0o600
        asyncio.run(kept(found, "c", one))
        with pytest.raises(MemoryUnavailable, match="did not come up"), started(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert served(tmp_path) is None, "an address that is left behind is not believed"
    with started(tmp_path) as server:
        found_again = served(tmp_path)
        assert found_again is not None
        assert found_again.url == server.url
        assert asyncio.run(all_of(found_again, "c")) == [one]
    assert served(tmp_path) is None


async def test_the_official_client_reads_and_writes_the_same(qdrant: Found) -> None:
    """So a Qdrant server understands what is said to it, as far as its own client tells."""
    from qdrant_client import AsyncQdrantClient, models

    name = f"official-{uuid4()}"
    one, two = context("connection reset"), context("no space left on device")
    await kept(qdrant, name, one, two)
    with pytest.warns(UserWarning, match="insecure connection"):
        client = AsyncQdrantClient(url=qdrant.url, api_key=qdrant.api_key, check_compatibility=False)
    (vector,) = HashingEmbedder().embed(["connection reset"])
    kind = models.FieldCondition(key="kind", match=models.MatchValue(value="app.work"))
    times = models.FieldCondition(key="settled_at", range=models.Range(gte=1_900_000_000))
    answer = await client.query_points(
        name, query=vector, query_filter=models.Filter(must=[kind, times]), limit=1
    )
    assert [(str(point.id), (point.payload or {})["message"]) for point in answer.points] == [
        (str(one.token), "connection reset")
    ]
    assert (await client.count(name)).count == 2
    await client.delete(
        name,
        models.FilterSelector(filter=models.Filter(must=[models.HasIdCondition(has_id=[str(one.token)])])),
    )
    await client.upsert(
        name, [models.PointStruct(id=str(one.token), vector=vector, payload={"kind": "app.work"})]
    )
    assert (await client.count(name)).count == 2
    await client.delete_collection(name)
    assert not await client.collection_exists(name)
    await client.close()


def test_each_request_is_one_of_the_official_interface() -> None:
    """The bodies that are sent to Qdrant fit the models that its own client is made of."""
    from qdrant_client import models

    from perdure.stores.qdrant.executions import _filter, _payload

    wanted = Wanted(kind="a", outcome="failed", failed=True, other_than=uuid4())
    models.QueryRequest.model_validate({"query": [0.0] * 384, "filter": _filter(wanted), "limit": 1})
    models.PointStruct.model_validate({"id": str(uuid4()), "vector": [0.0], "payload": _payload(context())})


async def test_what_this_is_not_is_said(qdrant: Found) -> None:
    headers = {"api-key": qdrant.api_key}
    async with httpx.AsyncClient(base_url=qdrant.url, headers=headers) as client:
        for method, path, body, status in (
            ("POST", "/collections/c/points/recommend", {}, 501),
            ("PUT", "/collections/named", {"vectors": {"a": {"size": 3, "distance": "Cosine"}}}, 501),
            ("POST", "/collections/none/points/query", {"query": [1.0]}, 404),
            ("PUT", "/collections/odd", {"vectors": {"size": 3, "distance": "Odd"}}, 400),
            ("PUT", "/collections/../up", {}, 501),
        ):
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, "error" in answer.json()["status"]) == (status, True), path
        assert (await client.put("/collections/c", content=b"{")).status_code == 400
    async with httpx.AsyncClient(base_url=qdrant.url) as stranger:
        assert (await stranger.get("/collections")).status_code == 401
