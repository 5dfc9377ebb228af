"""The memory of executions as somebody meets it: a worker remembers by itself, and command line, HTTP, page and program find it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from perdure import Perdure
from perdure.domain.errors import MemoryUnavailable
from perdure.domain.execution_memory import MemoryStatus
from perdure.runtime.operations import WorkerConfig
from perdure.runtime.vectors.finding import Found
from perdure.surfaces.cli.exits import Exit
from tests.api.conftest import JOBS, QUICK
from tests.memory.test_execution_memory import RESET, ended
from tests.support.command import Command
from tests.support.database import Store, store_on
from tests.support.jobs import add
from tests.support.waiting import eventually
from tests.support.web import visitor

SETTINGS: dict[str, Any] = {"memory_embedder": "hashing", "memory_sample": 1.0}


@pytest.fixture
def perdure(tmp_path: Path, database_url: str, qdrant: Found, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(
        tmp_path,
        {
            "COLUMNS": "200",
            "PERDURE_DATABASE_URL": database_url,
            "PERDURE_QDRANT_URL": qdrant.url,
            "PERDURE_QDRANT_API_KEY": qdrant.api_key,
            "PERDURE_MEMORY_EMBEDDER": "hashing",
            "PERDURE_MEMORY_SAMPLE": "1",
        },
    )


@pytest.fixture
async def app(database_url: str, qdrant: Found) -> AsyncIterator[Perdure]:
    at: dict[str, Any] = {"qdrant_url": qdrant.url, "qdrant_api_key": qdrant.api_key}
    async with Perdure(database_url=database_url, **at, **SETTINGS) as app:
        yield app


async def test_a_worker_remembers_by_itself(
    store: Store, app: Perdure, qdrant: Found, tmp_path: Path
) -> None:
    """Its leader starts a process for it, which reads on while work goes on."""
    job = await ended(store, RESET, kind="app.elsewhere")
    at: dict[str, Any] = {"qdrant_url": qdrant.url, "qdrant_api_key": qdrant.api_key}
    log = tmp_path / "worker.log"
    worker = await app.workers.spawn(
        WorkerConfig(app=JOBS, settings={**QUICK, **at, **SETTINGS}, log=log, bound=True)
    )
    service = await (await app.stores()).memory.service()

    async def remembered() -> MemoryStatus | None:
        status = await service.status()
        return status if status.remembered else None

    try:
        status = await eventually(remembered, within_s=60)
        assert status is not None
        assert (status.remembered, status.embedder) == (1, "hashing/1.1")
        assert len(await app.state.execution_context(job.id)) == 1
    finally:
        await worker.stop()


async def test_jobs_run_as_ever_while_qdrant_is_away(database_url: str, tmp_path: Path) -> None:
    """A worker whose memory cannot be reached does its jobs, and their attempts wait in PostgreSQL to be remembered."""
    nowhere: dict[str, Any] = {"qdrant_url": "http://127.0.0.1:9"}
    async with Perdure(database_url=database_url, **nowhere, **SETTINGS) as app:
        log = tmp_path / "worker.log"
        worker = await app.workers.spawn(
            WorkerConfig(app=JOBS, settings={**QUICK, **nowhere, **SETTINGS}, log=log, bound=True)
        )
        try:
            handles = await app.enqueue_many([app.prepare(add, number, 1) for number in range(50)])
            assert [await handle.result(timeout="60s") for handle in handles] == list(range(1, 51))
            status = await (await (await app.stores()).memory.service()).status()
            assert (status.searchable, status.behind) == (False, 50)
            assert worker.process.returncode is None
        finally:
            await worker.stop()


async def test_the_operations_of_the_specification(store: Store, app: Perdure) -> None:
    first, second = await ended(store, RESET, kind="app.a"), await ended(store, RESET, kind="app.b")
    for job in (first, second):
        assert [each.outcome for each in await app.state.store_execution_context(job.id)] == ["failed"]
    (context,) = await app.state.execution_context(first.id)
    assert context.message == "[Errno 104] Connection reset by peer"
    found = await app.state.search_similar_executions("connection reset", 1)
    assert len(found) == 1
    (alike,) = await app.state.similar_patterns(first.id, 0.8)
    assert (alike.execution.job_id, alike.similarity > 0.8) == (second.id, True)
    assert list(await app.state.similar_patterns(first.id, 0.999)) == []
    status = await app.state.memory_status()
    assert (status.searchable, status.remembered, status.behind) == (True, 2, 2)
    assert (await app.state.rebuild_memory()).remembered == 2
    assert (await app.state.rebuild_memory(fresh=True)).remembered == 0


async def test_without_a_qdrant_the_way_out_is_named(database_url: str, tmp_path: Path) -> None:
    async with Perdure(database_url=database_url, data_dir=tmp_path) as app:
        with pytest.raises(MemoryUnavailable, match="there is no Qdrant") as refused:
            await app.state.search_similar_executions("reset")
        assert "perdure memory serve" in refused.value.next_step


async def test_http_and_the_page_of_a_job_show_what_is_alike(
    store: Store, app: Perdure, qdrant: Found, database_url: str
) -> None:
    mine, other = await ended(store, RESET, kind="app.a"), await ended(store, RESET, kind="app.b")
    for job in (mine, other):
        await app.state.store_execution_context(job.id)
    at: dict[str, Any] = {"qdrant_url": qdrant.url, "qdrant_api_key": qdrant.api_key}
    async with visitor(database_url, **at, **SETTINGS) as web:
        found = (
            await web.get("/api/v1/executions/similar", params={"text": "connection reset", "limit": 5})
        ).json()
        assert {each["execution"]["job_id"] for each in found} == {str(mine.id), str(other.id)}
        assert "token" in found[0]["execution"]
        (alike,) = (await web.get(f"/api/v1/jobs/{mine.id}/similar")).json()
        assert (alike["execution"]["job_id"], alike["fixed_by"]) == (str(other.id), "")
        assert len((await web.get(f"/api/v1/jobs/{mine.id}/contexts")).json()) == 1
        assert (await web.get("/api/v1/memory")).json()["remembered"] == 2
        odd = await web.get("/api/v1/executions/similar", params={"text": "x", "outcome": "odd"})
        assert odd.status_code == 400
        page = (await web.get(f"/jobs/{mine.id}")).text
        assert "Failures like it" in page
        assert f"/jobs/{other.id}" in page
    async with visitor(database_url, qdrant_url="http://127.0.0.1:9") as web:
        assert (await web.get("/api/v1/executions/similar", params={"text": "reset"})).status_code == 503
        alone = await web.get(f"/jobs/{mine.id}")
        assert (alone.status_code, "Failures like it" in alone.text) == (200, False)


def test_the_commands_find_show_and_rebuild(perdure: Command, database_url: str) -> None:
    async def history() -> str:
        async with store_on(database_url) as store:
            await store.sql("UPDATE perdure.installation SET id = gen_random_uuid()")
            mine = await ended(store, RESET, kind="app.a")
            await ended(store, RESET, kind="app.b")
        async with Perdure(
            database_url=database_url,
            qdrant_url=perdure.variables["PERDURE_QDRANT_URL"],
            qdrant_api_key=perdure.variables["PERDURE_QDRANT_API_KEY"],
            **SETTINGS,
        ) as app:
            await (await (await app.stores()).memory.service()).remember_once()
        return str(mine.id)

    mine = asyncio.run(history())
    found = perdure("search", "connection reset by peer", "--json").json["items"]
    assert [each["kind"] for each in found] in (["app.a", "app.b"], ["app.b", "app.a"])
    assert found[0]["error"] == "ConnectionResetError: [Errno 104] Connection reset by peer"
    assert [
        each["kind"] for each in perdure("search", "reset", "--kind", "app.b", "--json").json["items"]
    ] == ["app.b"]
    assert perdure("search", "reset", "--since", "1h", "--outcome", "completed").out == ""
    assert [row[3] for row in perdure("job", "similar", mine).rows] == ["app.b"]
    (context,) = perdure("memory", "show", mine, "--json").json["items"]
    assert (context["kind"], context["error"]) == ("app.a", found[0]["error"])
    assert perdure("memory", "store", mine, "--json").json["items"] == [context]
    assert perdure("memory", "store", str(UUID(int=1))).code == Exit.NOT_FOUND
    status = perdure("memory", "status", "--json").json
    assert (status["state"], status["remembered"], status["behind"]) == ("ok", 2, 0)
    assert perdure("memory", "rebuild", "--fresh").code == Exit.USAGE, "nobody can be asked here"
    assert perdure("memory", "rebuild", "--fresh", "--dry-run", "--json").json["remembered"] == 2
    assert perdure("memory", "rebuild", "--fresh", "--yes", "--json").json["behind"] == 2
    assert perdure("search", " ").code == Exit.USAGE
    assert perdure("search", "x", "--outcome", "odd").code == Exit.USAGE
    away = Command(perdure.folder, {**perdure.variables, "PERDURE_QDRANT_URL": "http://127.0.0.1:9"})
    assert away("memory", "status").code == Exit.DEGRADED
    assert away("search", "x").code == Exit.UNREACHABLE
