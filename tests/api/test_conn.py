"""`conn=`: jobs that exist exactly when the caller's own transaction commits, with every library taken."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from perdure import DuplicateJob, JobState, Perdure
from perdure.domain.errors import DependencyCycle, InvalidOption, NotFound, UnknownParent
from perdure.runtime.new_ids import new_id
from tests.support import jobs


class Undone(Exception):
    """What a test raises to roll a transaction back."""


def address(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


@asynccontextmanager
async def by_asyncpg(url: str) -> AsyncIterator[object]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def by_asyncpg_pool(url: str) -> AsyncIterator[object]:
    async with (
        asyncpg.create_pool(url, min_size=0) as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        yield connection


@asynccontextmanager
async def by_psycopg_async(url: str) -> AsyncIterator[object]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def by_async_connection(url: str, driver: str) -> AsyncIterator[object]:
    engine = create_async_engine(address(url, driver))
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def by_async_session(url: str, driver: str, *, scoped: bool = False) -> AsyncIterator[object]:
    engine = create_async_engine(address(url, driver))
    maker = async_sessionmaker(engine)
    session: Any = async_scoped_session(maker, scopefunc=lambda: 1) if scoped else maker()
    try:
        await session.execute(sqlalchemy.text("SELECT 1"))
        yield session
        await session.commit()
    finally:
        await session.close()
        await engine.dispose()


ASYNC: dict[str, Callable[[str], AbstractAsyncContextManager[object]]] = {
    "asyncpg": by_asyncpg,
    "asyncpg pool": by_asyncpg_pool,
    "psycopg": by_psycopg_async,
    "connection asyncpg": lambda url: by_async_connection(url, "asyncpg"),
    "connection psycopg": lambda url: by_async_connection(url, "psycopg"),
    "session asyncpg": lambda url: by_async_session(url, "asyncpg"),
    "session psycopg": lambda url: by_async_session(url, "psycopg"),
    "scoped session": lambda url: by_async_session(url, "asyncpg", scoped=True),
}


@contextmanager
def by_psycopg(url: str) -> Iterator[object]:
    with psycopg.connect(url) as connection:
        yield connection


@contextmanager
def by_connection(url: str) -> Iterator[object]:
    engine = sqlalchemy.create_engine(address(url, "psycopg"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def by_session(url: str) -> Iterator[object]:
    engine = sqlalchemy.create_engine(address(url, "psycopg"))
    try:
        with Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


@contextmanager
def by_scoped_session(url: str) -> Iterator[object]:
    engine = sqlalchemy.create_engine(address(url, "psycopg"))
    session = scoped_session(sessionmaker(engine))
    try:
        yield session
        session.commit()
    finally:
        session.remove()
        engine.dispose()


SYNC: dict[str, Callable[[str], AbstractContextManager[object]]] = {
    "psycopg": by_psycopg,
    "connection": by_connection,
    "session": by_session,
    "scoped session": by_scoped_session,
}


@pytest.mark.parametrize("library", ASYNC)
async def test_a_job_exists_when_the_callers_transaction_commits_and_not_before(
    app: Perdure, database_url: str, library: str
) -> None:
    async with ASYNC[library](database_url) as conn:
        handle = await app.using(conn=conn, priority=4).enqueue(jobs.add, 1)
        many = await app.enqueue_many([app.prepare(jobs.add, 2), app.prepare(jobs.add, 3)], conn=conn)
        with pytest.raises(NotFound):
            await handle.state()
    assert handle.created
    assert [await one.state() for one in (handle, *many)] == [JobState.AVAILABLE] * 3


@pytest.mark.parametrize("library", ASYNC)
async def test_a_job_goes_with_the_callers_rollback(app: Perdure, database_url: str, library: str) -> None:
    given = new_id()

    async def undone() -> None:
        async with ASYNC[library](database_url) as conn:
            assert (await app.using(conn=conn, id=given).enqueue(jobs.add, 1)).created
            raise Undone

    with pytest.raises(Undone):
        await undone()
    with pytest.raises(NotFound):
        await app.handle(jobs.add, given).state()


@pytest.mark.parametrize("library", ASYNC)
async def test_refusals_in_the_callers_transaction_are_typed(
    app: Perdure, database_url: str, library: str
) -> None:
    holder = await app.enqueue(jobs.unique_one)
    unknown, one, two = new_id(), new_id(), new_id()
    with pytest.raises(DuplicateJob) as duplicate:
        async with ASYNC[library](database_url) as conn:
            await app.using(conn=conn).enqueue(jobs.unique_one)
    assert duplicate.value.holder == holder.id
    with pytest.raises(UnknownParent) as orphan:
        async with ASYNC[library](database_url) as conn:
            await app.using(conn=conn, depends_on=unknown).enqueue(jobs.add, 1)
    assert orphan.value.parent_id == unknown
    circle = [
        app.using(id=one, depends_on=two).prepare(jobs.add, 1),
        app.using(id=two, depends_on=one).prepare(jobs.add, 2),
    ]
    with pytest.raises(DependencyCycle):
        async with ASYNC[library](database_url) as conn:
            await app.enqueue_many(circle, conn=conn)


@pytest.mark.parametrize("library", SYNC)
def test_blocking_connections_carry_jobs_too(database_url: str, library: str) -> None:
    app = Perdure(database_url=database_url)
    with SYNC[library](database_url) as conn:
        handle = app.using(conn=conn).enqueue_sync(jobs.unique_one)
        many = app.enqueue_many_sync([app.prepare(jobs.add, 2)], conn=conn)
        with pytest.raises(NotFound):
            handle.state_sync()
    assert [one.state_sync() for one in (handle, *many)] == [JobState.AVAILABLE] * 2
    given = new_id()

    def undone() -> None:
        with SYNC[library](database_url) as conn:
            assert app.using(conn=conn, id=given).enqueue_sync(jobs.add, 1).created
            raise Undone

    with pytest.raises(Undone):
        undone()
    with pytest.raises(NotFound):
        app.handle(jobs.add, given).state_sync()
    with pytest.raises(DuplicateJob), SYNC[library](database_url) as conn:
        app.using(conn=conn).enqueue_sync(jobs.unique_one)
    app.close_sync()


async def test_a_job_can_follow_another_of_the_same_transaction(app: Perdure, database_url: str) -> None:
    async with by_asyncpg(database_url) as conn:
        first = await app.using(conn=conn).enqueue(jobs.add, 1)
        second = await app.using(conn=conn, depends_on=first).enqueue(jobs.add, 2)
    assert [await first.state(), await second.state()] == [JobState.AVAILABLE, JobState.PENDING]


async def test_a_connection_of_the_wrong_kind_is_refused_with_the_way_out(
    app: Perdure, database_url: str
) -> None:
    with psycopg.connect(database_url) as blocking, pytest.raises(InvalidOption) as refused:
        await app.using(conn=blocking).enqueue(jobs.add, 1)
    assert refused.value.next_step == "use the method that ends in _sync"
    async with by_psycopg_async(database_url) as conn:
        with pytest.raises(InvalidOption) as refused:
            app.using(conn=conn).enqueue_sync(jobs.add, 1)
    assert refused.value.next_step == "await the method without _sync"
    with pytest.raises(InvalidOption, match="no connection of asyncpg, psycopg or SQLAlchemy"):
        await app.using(conn="postgresql://").enqueue(jobs.add, 1)


def test_an_async_session_is_known_as_such() -> None:
    from perdure.stores.postgres.callers import is_async

    assert is_async(AsyncSession())
    assert not is_async(Session())


async def test_a_connection_that_is_none_is_refused_and_nothing_is_stored(app: Perdure) -> None:
    """A session variable that was never set must not turn a transactional enqueue into a plain one."""
    with pytest.raises(InvalidOption, match="conn"):
        app.using(conn=None)
    with pytest.raises(InvalidOption, match="conn"):
        await app.enqueue_many([], conn=None)
