"""The application object: what a program enqueues with."""

import asyncio
import secrets
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar
from uuid import UUID

from perdure.domain.errors import DatabaseUnavailable, InvalidOption
from perdure.domain.ids import JobIds
from perdure.domain.job import Disposition, Enqueued, JobId, NewJob
from perdure.domain.kind import Kind
from perdure.domain.options import EnqueueOptions, new_job
from perdure.domain.views import ResultView
from perdure.runtime.background import BackgroundLoop
from perdure.runtime.handles import Handle

if TYPE_CHECKING:
    from perdure.runtime.operations import JobOperations, WorkerOperations
    from perdure.runtime.settings import Settings
    from perdure.runtime.wiring import Stores
    from perdure.services.enqueue import Enqueue

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Generic[R]):
    """A job that is ready to be enqueued; its id is known already, so that others can depend on it."""

    job: NewJob
    kind: Kind[..., Any]
    on_duplicate: str

    @property
    def id(self) -> UUID:
        return self.job.id


class _Ids:
    """Job ids for all threads of this process, drawn from the system's randomness, so that forks cannot repeat them."""

    def __init__(self) -> None:
        self._next = JobIds(lambda: time.time_ns() // 1_000_000, secrets.randbits)
        self._lock = threading.Lock()

    def __call__(self) -> JobId:
        with self._lock:
            return self._next()


new_id = _Ids()


@dataclass(slots=True)
class _Opened:
    stores: "Stores"
    enqueue: "Enqueue"
    stack: AsyncExitStack


class Perdure:
    """Enqueues jobs and looks after them. Connects at first use; `async with` or `close` gives the connections back.

    Settings come from `settings`, or are read from file and environment when first needed. One object serves async
    code on one event loop and blocking code in any thread.
    """

    def __init__(self, settings: "Settings | None" = None, **overrides: object) -> None:
        self._settings = settings
        self._overrides = overrides
        self._opened: dict[int, _Opened] = {}
        self._opening: dict[int, asyncio.Lock] = {}
        self._background = BackgroundLoop()

    @property
    def settings(self) -> "Settings":
        """The settings in force. Raises InvalidSettings."""
        if self._settings is None:
            from perdure.runtime.settings import Settings

            self._settings = Settings.load(self._overrides)
        return self._settings

    def using(self, *, conn: object = None, **options: Any) -> "Enqueuer":
        """The same `enqueue` with options: those of `EnqueueOptions`, and `conn`, the caller's own transaction."""
        return Enqueuer(self, EnqueueOptions(**_known(options)), conn)

    def prepare(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Prepared[R]:
        """A job for `enqueue_many`. Raises InvalidArguments, PayloadTooLarge or InvalidOption."""
        return self.using().prepare(kind, *args, **kwargs)

    async def enqueue(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Store a job durably; it runs as soon as a worker has room.

        Raises InvalidArguments or PayloadTooLarge before anything is sent, DatabaseUnavailable when the outcome is
        unknown or nothing was stored: the same call with the same `id` may be repeated.
        """
        return await self.using().enqueue(kind, *args, **kwargs)

    def enqueue_sync(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """As `enqueue`, for code that is not async."""
        return self.using().enqueue_sync(kind, *args, **kwargs)

    async def enqueue_many(self, jobs: Sequence[Prepared[Any]], *, conn: object = None) -> list[Handle[Any]]:
        """Store jobs, all or none; they may depend on each other."""
        return await self.using(conn=conn).enqueue_many(jobs)

    def enqueue_many_sync(self, jobs: Sequence[Prepared[Any]], *, conn: object = None) -> list[Handle[Any]]:
        """As `enqueue_many`, for code that is not async."""
        return self.using(conn=conn).enqueue_many_sync(jobs)

    def handle(self, kind: Kind[P, R], id: UUID) -> Handle[R]:
        """The handle of a job that was enqueued elsewhere."""
        return Handle(id, kind, self._look, self._background.run, created=False)

    @property
    def jobs(self) -> "JobOperations":
        """The specification's operations on jobs, for worker loops of one's own."""
        from perdure.runtime.operations import JobOperations

        return JobOperations(self)

    @property
    def workers(self) -> "WorkerOperations":
        """The specification's operations on workers."""
        from perdure.runtime.operations import WorkerOperations

        return WorkerOperations(self)

    async def stores(self) -> "Stores":
        """The services behind this object, connected. Raises DatabaseUnavailable, SchemaMissing or SchemaOutdated."""
        return (await self._open()).stores

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of this object from code that is not async."""
        return self._background.run(coroutine)

    async def __aenter__(self) -> "Perdure":
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is under way on this event loop and give its connections back."""
        opened = self._opened.pop(id(asyncio.get_running_loop()), None)
        if opened is not None:
            await opened.enqueue.close()
            await opened.stack.aclose()

    def close_sync(self) -> None:
        """As `close`, for what blocking calls opened."""
        self._background.run(self.close())

    async def _open(self) -> _Opened:
        loop = id(asyncio.get_running_loop())
        if loop in self._opened:
            return self._opened[loop]
        async with self._opening.setdefault(loop, asyncio.Lock()):
            if loop not in self._opened:
                self._opened[loop] = await self._connect()
        return self._opened[loop]

    async def _connect(self) -> _Opened:
        from perdure.runtime.wiring import connected
        from perdure.services.enqueue import Enqueue

        if not self.settings.database_url.get_secret_value():
            raise DatabaseUnavailable(
                "no database is set", next_step="set PERDURE_DATABASE_URL, or start everything with `perdure dev`"
            )
        stack = AsyncExitStack()
        stores = await stack.enter_async_context(
            connected(self.settings, application_name="perdure producer", most=CONNECTIONS)
        )
        return _Opened(stores, Enqueue(stores.jobs, stores.dispatch), stack)

    async def _look(self, job_id: UUID) -> ResultView | None:
        return await (await self._open()).stores.read.result_of(job_id)


class Enqueuer:
    """`enqueue` with options that hold for each of its calls."""

    def __init__(self, app: Perdure, options: EnqueueOptions, conn: object) -> None:
        self._app = app
        self._options = options
        self._conn = conn

    def prepare(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Prepared[R]:
        """A job for `enqueue_many`. Raises InvalidArguments, PayloadTooLarge or InvalidOption."""
        if not isinstance(kind, Kind):
            raise InvalidOption("kind", f"{kind!r} is not a job", next_step="decorate the function with `@perdure.job`")
        text = kind.arguments.encode(args, kwargs, max_bytes=self._app.settings.max_payload_bytes)
        job = new_job(kind, self._options, text, new_id())
        on_duplicate = self._options.on_duplicate
        return Prepared(
            job=job, kind=kind, on_duplicate=on_duplicate if isinstance(on_duplicate, str) else kind.options.on_duplicate
        )

    async def enqueue(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """See `Perdure.enqueue`. With `conn`, the job exists once the caller's transaction has committed."""
        prepared = self.prepare(kind, *args, **kwargs)
        if self._conn is not None:
            return self._handles([prepared], await self._on_conn([prepared]))[0]
        opened = await self._app._open()
        answer = await opened.enqueue.one(prepared.job, on_duplicate=prepared.on_duplicate)
        return self._handles([prepared], [answer])[0]

    def enqueue_sync(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """As `enqueue`, for code that is not async; `conn` is then a connection that is not async."""
        prepared = self.prepare(kind, *args, **kwargs)
        return self._many_sync([prepared])[0]

    async def enqueue_many(self, jobs: Sequence[Prepared[Any]]) -> list[Handle[Any]]:
        """Store jobs, all or none; they may depend on each other."""
        if self._conn is not None:
            return self._handles(jobs, await self._on_conn(jobs))
        opened = await self._app._open()
        answers = await opened.enqueue.many([one.job for one in jobs], on_duplicate=_policy(jobs))
        return self._handles(jobs, answers)

    def enqueue_many_sync(self, jobs: Sequence[Prepared[Any]]) -> list[Handle[Any]]:
        """As `enqueue_many`, for code that is not async."""
        return self._many_sync(jobs)

    def _many_sync(self, jobs: Sequence[Prepared[Any]]) -> list[Handle[Any]]:
        if self._conn is None:
            return self._app.run_sync(self.enqueue_many(jobs))
        from perdure.stores.postgres.callers import enqueue_on_sync

        answers = enqueue_on_sync(
            self._conn,
            [one.job for one in jobs],
            on_duplicate=_policy(jobs),
            schema=self._app.settings.schema,
        )
        return self._handles(jobs, answers)

    async def _on_conn(self, jobs: Sequence[Prepared[Any]]) -> Sequence[Enqueued]:
        from perdure.stores.postgres.callers import enqueue_on

        return await enqueue_on(
            self._conn,
            [one.job for one in jobs],
            on_duplicate=_policy(jobs),
            schema=self._app.settings.schema,
        )

    def _handles(self, jobs: Sequence[Prepared[Any]], answers: Sequence[Enqueued]) -> list[Handle[Any]]:
        handles = []
        for prepared, answer in zip(jobs, answers, strict=True):
            handle: Handle[Any] = self._app.handle(prepared.kind, answer.holder or answer.job_id)
            handle.created = answer.disposition is Disposition.CREATED
            handles.append(handle)
        return handles


def _policy(jobs: Sequence[Prepared[Any]]) -> str:
    return "raise" if any(one.on_duplicate == "raise" for one in jobs) else "return"


def _known(options: dict[str, Any]) -> dict[str, Any]:
    known = EnqueueOptions.__dataclass_fields__
    for name in options:
        if name not in known:
            raise InvalidOption(name, "there is no such option", next_step=f"the options are: {', '.join(known)}, conn")
    return options

