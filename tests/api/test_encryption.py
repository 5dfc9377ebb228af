"""Encrypted jobs: workers run them as any other, and the database never holds a readable word of them."""

import asyncio
import base64
import pickle
from pathlib import Path
from typing import Any

import pytest

from perdure import JobFailed, Perdure
from perdure.domain.errors import InvalidSettings, PayloadTooLarge
from perdure.runtime.operations import WorkerConfig
from perdure.testing import assert_enqueued, drain, inline
from tests.api.conftest import QUICK
from tests.support import sealed_jobs as jobs
from tests.support.command import Command

OLD, NEW = (
    f"{name}:{base64.b64encode(bytes([number] * 32)).decode()}" for number, name in enumerate(("old", "new"))
)
READABLE = """
    SELECT (SELECT count(*) FROM perdure.jobs j WHERE j::text ~* 'hush')
        + (SELECT count(*) FROM perdure.job_executions e WHERE e::text ~* 'hush')
"""
SEALED_BY = "SELECT DISTINCT args -> '$sealed' ->> 'key' FROM perdure.jobs"


async def test_the_database_never_holds_a_readable_word(database_url: str, sql: Any, tmp_path: Path) -> None:
    """In each mode, and with `complete` in the handler's own transaction; what routes a job stays readable."""
    async with Perdure(database_url=database_url, encryption_keys=OLD) as app:
        handles = await app.enqueue_many([app.prepare(kind, "hush") for kind in jobs.KINDS])
        config = WorkerConfig(
            app=jobs.__name__, settings={**QUICK, "encryption_keys": OLD}, log=tmp_path / "log", bound=True
        )
        worker = await app.workers.spawn(config)
        assert [await handle.result("30s") for handle in handles] == ["HUSH"] * len(jobs.KINDS)
        await worker.stop()
        assert await sql.fetchval(READABLE) == 0
        shown = await app.jobs.get(handles[0].id)
        assert b"[encrypted]" in bytes(shown.job.args)
        assert shown.job.kind == jobs.whisper.name
        told = Command(tmp_path, {"PERDURE_DATABASE_URL": database_url, "PERDURE_ENCRYPTION_KEYS": OLD})
        assert (await asyncio.to_thread(told, "job", "wait", str(handles[0].id))).out == '"HUSH"\n'
    assert "hush" not in (tmp_path / "log").read_text()


async def test_keys_are_changed_without_a_stop(database_url: str, sql: Any) -> None:
    async with Perdure(database_url=database_url, encryption_keys=OLD) as before:
        handle = await before.enqueue(jobs.whisper, "hush")
    async with Perdure(database_url=database_url, encryption_keys=f"{NEW},{OLD}") as app:
        later = await app.enqueue(jobs.whisper, "hush")
        await drain(app, jobs)
        assert [await one.result() for one in (app.handle(jobs.whisper, handle.id), later)] == [
            "HUSH",
            "HUSH",
        ]
        assert sorted(row[0] for row in await sql.fetch(SEALED_BY)) == ["new", "old"]


async def test_who_lacks_the_key_dead_letters_with_the_reason_and_who_has_it_replays(
    database_url: str,
) -> None:
    async with Perdure(database_url=database_url, encryption_keys=OLD) as app:
        handle = await app.enqueue(jobs.whisper, "hush")
        for keys in ("", NEW):
            async with Perdure(database_url=database_url, encryption_keys=keys) as other:
                await drain(other, jobs)
            with pytest.raises(JobFailed, match="the key 'old' that sealed it is not here"):
                await handle.result()
            await app.jobs.retry(handle.id)
        await drain(app, jobs)
        assert await handle.result() == "HUSH"


async def test_arguments_put_into_another_job_are_refused(database_url: str, sql: Any) -> None:
    async with Perdure(database_url=database_url, encryption_keys=OLD) as app:
        theirs, mine = await app.enqueue_many([app.prepare(jobs.whisper, text) for text in ("hush", "hello")])
        await sql.execute("SET session_replication_role = replica")
        swap = "UPDATE perdure.jobs SET args = (SELECT args FROM perdure.jobs WHERE id = $1) WHERE id = $2"
        await sql.execute(swap, theirs.id, mine.id)
        await drain(app, jobs)
        with pytest.raises(JobFailed, match="belongs to another job"):
            await mine.result()


async def test_without_a_key_or_room_nothing_is_stored(database_url: str, sql: Any) -> None:
    async with Perdure(database_url=database_url) as app:
        with pytest.raises(InvalidSettings, match="encryption_keys"):
            await app.enqueue(jobs.whisper, "hush")
    async with Perdure(database_url=database_url, encryption_keys=OLD, max_payload_bytes=1024) as app:
        with pytest.raises(PayloadTooLarge, match="once they are encrypted"):
            await app.enqueue(jobs.whisper, "x" * 1000)
    with pytest.raises(InvalidSettings, match="encryption_keys"):
        await Perdure(encryption_keys="old:aHVzaA==").enqueue(jobs.whisper, "hush")
    assert await sql.fetchval("SELECT count(*) FROM perdure.jobs") == 0


async def test_what_is_prepared_holds_no_readable_word() -> None:
    """It may be logged, and be handed to another process."""
    app = Perdure(database_url="postgresql://nobody@localhost:1/none", encryption_keys=OLD)
    prepared = app.prepare(jobs.whisper, "hush")
    assert "hush" not in repr(prepared)
    assert b"hush" not in pickle.dumps(prepared)


async def test_a_unique_job_is_unique_though_it_is_encrypted(database_url: str) -> None:
    async with Perdure(database_url=database_url, encryption_keys=OLD) as app:
        first = await app.enqueue(jobs.whisper_once, "hush")
        again = await app.using(on_duplicate="return").enqueue(jobs.whisper_once, "hush")
        other = await app.enqueue(jobs.whisper_once, "hello")
        assert (again.id, again.created, other.created) == (first.id, False, True)


async def test_test_tools_see_through_it(database_url: str) -> None:
    async with Perdure(database_url=database_url, encryption_keys=OLD) as app:
        await app.enqueue(jobs.whisper, "hush")
        await assert_enqueued(app, jobs.whisper, text="hush")
        with inline(app):
            assert await (await app.enqueue(jobs.whisper_in_a_thread, "hush")).result() == "HUSH"
            await assert_enqueued(app, jobs.whisper_in_a_thread, text="hush")
