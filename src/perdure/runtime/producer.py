"""Where the jobs of an application go: a port, and its side that stores them in the database."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from perdure.domain.ids import Ids
from perdure.domain.job import Enqueued, NewJob
from perdure.domain.kind import Kind
from perdure.runtime.background import BackgroundLoop
from perdure.runtime.locating import running_database
from perdure.runtime.prepared import Prepared, in_columns

if TYPE_CHECKING:
    from perdure.domain.views import ActOutcome, ResultView
    from perdure.runtime.lookout import Lookout
    from perdure.runtime.settings import Settings
    from perdure.runtime.wiring import Stores
    from perdure.services.enqueue import Enqueue

T = TypeVar("T")

CONNECTIONS = 8


class Producer(Protocol):
    """Takes the jobs of an application and says where they stand."""

    async def enqueue(self, jobs: Sequence[Prepared[Any]], *, conn: object) -> Ids | Sequence[Enqueued]:
        """Take the jobs, all or none; with a `conn` that is not None, in the transaction of that connection.

        Gives an answer for each, or their ids, where this very call has created them all.
        """
        ...

    def enqueue_one(self, job: NewJob, kind: Kind[..., Any], on_duplicate: str) -> Awaitable[Enqueued]:
        """As `enqueue` with one job and no `conn`; a way of its own, for a single enqueue feels each step."""
        ...

    def enqueue_sync(self, jobs: Sequence[Prepared[Any]], *, conn: object) -> Ids | Sequence[Enqueued]:
        """As `enqueue`, for code that is not async; `conn` is then a connection that is not async."""
        ...

    async def look(self, job_id: UUID) -> "ResultView | None":
        """Where a job stands, with its result or its error; None when it is unknown."""
        ...

    async def cancel(self, job_id: UUID, *, actor: str, reason: str) -> "ActOutcome":
        """End a waiting job as cancelled, or ask for the end of a running one. Raises NotFound or IllegalTransition."""
        ...

    async def retry(self, job_id: UUID, *, actor: str, reason: str) -> "ActOutcome":
        """Have a job that waits or failed run at once. Raises NotFound, IllegalTransition or DuplicateJob."""
        ...


@dataclass(slots=True)
class _Opened:
    settings: "Settings"
    stores: "Stores"
    enqueue: "Enqueue"
    lookout: "Lookout"
    stack: AsyncExitStack


@dataclass(slots=True)
class _Place:
    """What is open on one event loop."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    opened: _Opened | None = None


class DatabaseProducer:
    """Stores jobs in PostgreSQL, on connections of each event loop's own that are opened at first use.

    A loop that ends gives its connections back, since what holds them is an async generator, which loops end.
    """

    def __init__(self, settings: "Callable[[], Settings]") -> None:
        self._settings = settings
        self._places: dict[asyncio.AbstractEventLoop, _Place] = {}
        self._background = BackgroundLoop()

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine from code that is not async."""
        return self._background.run(coroutine)

    async def enqueue(self, jobs: Sequence[Prepared[Any]], *, conn: object) -> Ids | Sequence[Enqueued]:
        if conn is not None:
            from perdure.stores.postgres.callers import enqueue_on

            return await enqueue_on(
                conn, [one.job for one in jobs], on_duplicate=_policy(jobs), schema=self._settings().schema
            )
        from perdure.services.enqueue import MANY

        enqueue = (await self._open()).enqueue
        if len(jobs) == 1:
            return [await enqueue.one(jobs[0].job, on_duplicate=jobs[0].on_duplicate)]
        columns = in_columns(jobs) if len(jobs) >= MANY else None
        if columns is None:
            return await enqueue.many([one.job for one in jobs], on_duplicate=_policy(jobs))
        ids, bulks = columns
        answers = await enqueue.bulk(bulks, lambda: [one.job for one in jobs], on_duplicate=_policy(jobs))
        return ids if answers is None else answers

    def enqueue_one(self, job: NewJob, kind: Kind[..., Any], on_duplicate: str) -> Awaitable[Enqueued]:
        # Not a coroutine of its own: a single enqueue feels each of them.
        place = self._places.get(asyncio.get_running_loop())
        if place is None or place.opened is None:
            return self._enqueue_first(job, on_duplicate)
        return place.opened.enqueue.one(job, on_duplicate=on_duplicate)

    async def _enqueue_first(self, job: NewJob, on_duplicate: str) -> Enqueued:
        """Store a job with the first connection of this event loop."""
        return await (await self._open()).enqueue.one(job, on_duplicate=on_duplicate)

    def enqueue_sync(self, jobs: Sequence[Prepared[Any]], *, conn: object) -> Ids | Sequence[Enqueued]:
        if conn is None:
            return self.run_sync(self.enqueue(jobs, conn=None))
        from perdure.stores.postgres.callers import enqueue_on_sync

        return enqueue_on_sync(
            conn, [one.job for one in jobs], on_duplicate=_policy(jobs), schema=self._settings().schema
        )

    async def look(self, job_id: UUID) -> "ResultView | None":
        from perdure.runtime.sealing import opened as unsealed

        opened = await self._open()
        view = await opened.stores.read.result_of(job_id)
        return None if view is None else unsealed(view, job_id, opened.settings.keyring)

    async def cancel(self, job_id: UUID, *, actor: str, reason: str) -> "ActOutcome":
        report = await (await self.stores()).act.cancel(job_id, actor=actor, reason=reason)
        return report.acted[0].outcome

    async def retry(self, job_id: UUID, *, actor: str, reason: str) -> "ActOutcome":
        report = await (await self.stores()).act.retry(job_id, actor=actor, reason=reason)
        return report.acted[0].outcome

    async def stores(self) -> "Stores":
        """The services on this event loop, connected. Raises DatabaseUnavailable, SchemaMissing or SchemaOutdated."""
        return (await self._open()).stores

    async def settings(self) -> "Settings":
        """The settings with the database that was found. Raises as `stores` does."""
        return (await self._open()).settings

    async def close(self) -> None:
        """Finish what is under way on this event loop and give its connections back."""
        place = self._places.pop(asyncio.get_running_loop(), None)
        if place is not None and place.opened is not None:
            await place.opened.enqueue.close()
            await place.opened.lookout.close()
            await place.opened.stack.aclose()

    def close_sync(self) -> None:
        """As `close`, for what blocking calls opened."""
        if self._background.started:
            self.run_sync(self.close())

    async def _open(self) -> _Opened:
        loop = asyncio.get_running_loop()
        place = self._places.get(loop)
        if place is None:
            self._forget_ended_loops()
            place = self._places.setdefault(loop, _Place())
        if place.opened is None:
            async with place.opening:
                if place.opened is None:
                    place.opened = await self._connect()
        return place.opened

    def _forget_ended_loops(self) -> None:
        for loop in [loop for loop in list(self._places) if loop.is_closed()]:
            self._places.pop(loop, None)

    async def _connect(self) -> _Opened:
        from perdure.runtime.lookout import Lookout
        from perdure.runtime.wiring import connected
        from perdure.services.enqueue import Enqueue

        async with AsyncExitStack() as stack:
            settings = await stack.enter_async_context(running_database(self._settings()))
            stores = await stack.enter_async_context(
                connected(settings, application_name="perdure producer", most=CONNECTIONS)
            )
            lookout = Lookout(stores.lineage)
            enqueue = Enqueue(stores.jobs, stores.plain, stores.dispatch, lookout)
            await lookout.begin()
            await stores.plain.open()
            return _Opened(settings, stores, enqueue, lookout, stack.pop_all())


def _policy(jobs: Sequence[Prepared[Any]]) -> str:
    """One answer for the whole call, since it stores all or none: the stricter one."""
    unique = (one for one in jobs if isinstance(one.source, NewJob) and one.source.unique)
    return "raise" if any(one.on_duplicate == "raise" for one in unique) else "return"
