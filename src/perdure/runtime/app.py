"""The application object: what a program enqueues with."""

import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack
from uuid import UUID

from msgspec import UNSET

from perdure.domain.bounds import OnDuplicate
from perdure.domain.errors import InvalidOption, InvalidSettings
from perdure.domain.ids import Ids
from perdure.domain.job import Disposition, Enqueued
from perdure.domain.kind import Kind, no_kind
from perdure.domain.options import EnqueueOptions, Mould
from perdure.runtime.handles import Handle
from perdure.runtime.keywords import OptionKeywords, SettingKeywords
from perdure.runtime.new_ids import new_id
from perdure.runtime.prepared import Prepared
from perdure.runtime.producer import DatabaseProducer, Producer
from perdure.runtime.tracing import OPENTELEMETRY, is_traced, sending

if TYPE_CHECKING:
    from perdure.domain.job import NewJob
    from perdure.runtime.health_operations import HealthOperations
    from perdure.runtime.operations import JobOperations, WorkerOperations
    from perdure.runtime.settings import Settings
    from perdure.runtime.state_operations import StateOperations
    from perdure.runtime.wiring import Stores

CREATED = Disposition.CREATED
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Form:
    """What enqueues of one kind have in common: it is worked out with the first of them, for each would feel it."""

    __slots__ = ("encode", "is_encrypted", "max_bytes", "mould", "on_duplicate", "redact", "shape")

    def __init__(self, kind: Kind[..., Any], options: EnqueueOptions, settings: "Settings") -> None:
        self.mould = Mould(kind, options)
        self.on_duplicate: OnDuplicate = self.mould.on_duplicate
        self.shape = self.mould.shape
        self.encode = kind.arguments.encode
        self.max_bytes, self.redact = settings.max_payload_bytes, settings.redact
        self.is_encrypted = kind.options.encrypted


class Enqueuer:
    """`enqueue` with options that hold for each of its calls."""

    def __init__(self, app: "Perdure", options: EnqueueOptions, conn: object) -> None:
        self._app = app
        self._options = options
        self._conn = conn
        self._forms: dict[Kind[..., Any], _Form] = {}

    def prepare(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Prepared[R]:
        """A job for `enqueue_many`. Raises InvalidArguments, PayloadTooLarge or InvalidOption."""
        form, text = self._formed(kind, args, kwargs)
        if form.shape is None:
            return Prepared(kind=kind, on_duplicate=form.on_duplicate, source=self._made(form, text))
        return Prepared(kind=kind, on_duplicate=form.on_duplicate, source=form.shape, args=text)

    async def enqueue(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Store a job durably; it runs as soon as a worker has room, with `conn` once the caller's transaction has committed.

        Raises InvalidArguments or PayloadTooLarge before anything is sent, DatabaseUnavailable when the outcome is
        unknown or nothing was stored: the same call with the same `id` may be repeated.
        """
        # A way of its own, and few calls on it: between two single enqueues the processor does other things, and what
        # takes a microsecond in a loop takes three then.
        form, text = self._formed(kind, args, kwargs)
        job = self._made(form, text)
        app = self._app
        if self._conn is not None or (OPENTELEMETRY in sys.modules and is_traced(app.settings.tracing)):
            prepared: Prepared[R] = Prepared(kind=kind, on_duplicate=form.on_duplicate, source=job)
            return (await self._stored([prepared], self._conn))[0]
        producer = app.producer
        answer = await producer.enqueue_one(job, kind, form.on_duplicate)
        return Handle(
            answer.holder or answer.job_id, kind, producer, app.run_sync, answer.disposition is CREATED
        )

    def enqueue_sync(self, kind: Kind[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """As `enqueue`, for code that is not async; `conn` is then a connection that is not async."""
        return self._stored_sync([self.prepare(kind, *args, **kwargs)], self._conn)[0]

    async def enqueue_many(self, jobs: Sequence[Prepared[R]]) -> list[Handle[R]]:
        """Store jobs, all or none; they may depend on each other. Their options are those of their `prepare`."""
        return await self._stored(jobs, self._conn)

    def enqueue_many_sync(self, jobs: Sequence[Prepared[R]]) -> list[Handle[R]]:
        """As `enqueue_many`, for code that is not async."""
        return self._stored_sync(jobs, self._conn)

    def _formed(
        self, kind: Kind[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[_Form, str]:
        """The form of the kind, and the arguments as JSON text."""
        if not isinstance(kind, Kind):
            raise no_kind(kind)
        form = self._forms.get(kind)
        if form is None:
            form = self._forms[kind] = _Form(kind, self._options, self._app.settings)
        return form, form.encode(args, kwargs, max_bytes=form.max_bytes, redact=form.redact)

    def _made(self, form: _Form, text: str) -> "NewJob":
        job = form.mould.job(text, new_id())
        return _sealed(job, self._app.settings) if form.is_encrypted else job

    async def _stored(self, jobs: Sequence[Prepared[R]], conn: object) -> list[Handle[R]]:
        jobs = tuple(jobs)  # its caller may go on with the list meanwhile
        with sending(jobs, self._app.settings.tracing) as sent:
            answers = await self._app.producer.enqueue(sent, conn=conn)
        return self._handles(jobs, answers)

    def _stored_sync(self, jobs: Sequence[Prepared[R]], conn: object) -> list[Handle[R]]:
        jobs = tuple(jobs)
        with sending(jobs, self._app.settings.tracing) as sent:
            answers = self._app.producer.enqueue_sync(sent, conn=conn)
        return self._handles(jobs, answers)

    def _handles(self, jobs: Sequence[Prepared[R]], answers: Ids | Sequence[Enqueued]) -> list[Handle[R]]:
        producer, wait = self._app.producer, self._app.run_sync
        if isinstance(answers, Ids):
            return [
                Handle(raw, one.kind, producer, wait, True)
                for raw, one in zip(answers.raw, jobs, strict=True)
            ]
        return [
            Handle(
                answer.holder or answer.job_id, prepared.kind, producer, wait, answer.disposition is CREATED
            )
            for prepared, answer in zip(jobs, answers, strict=True)
        ]


class Perdure(Enqueuer):
    """Enqueues jobs and looks after them. Connects at first use; `async with` or `close` gives the connections back.

    Settings come from `settings`, or are read from file and environment when first needed; those given by name come
    before both. One object serves async code on any event loop and blocking code in any thread.
    """

    def __init__(self, settings: "Settings | None" = None, **overrides: Unpack[SettingKeywords]) -> None:
        if settings is not None and overrides:
            name = next(iter(overrides))
            raise InvalidSettings(name, "give it in `settings`, which are taken as they are")
        for name in overrides.keys() - SettingKeywords.__annotations__.keys():
            raise InvalidSettings(name, "no such setting", next_step="see `perdure config show`")
        self._settings = settings
        self._overrides = overrides
        self._database = DatabaseProducer(lambda: self.settings)
        self.producer: Producer = self._database
        """Where the jobs of this object go."""
        super().__init__(self, EnqueueOptions(), None)

    @property
    def settings(self) -> "Settings":
        """The settings in force. Raises InvalidSettings."""
        if self._settings is None:
            from perdure.runtime.settings import Settings

            self._settings = Settings.load(dict(self._overrides))
        return self._settings

    def using(self, *, conn: object = UNSET, **options: Unpack[OptionKeywords]) -> "Enqueuer":
        """The same `enqueue` with options for its jobs; what is not given is as the kind's decorator says.

        `perdure.domain.meanings.MEANINGS` has a line on each, docs/reference/python.md their types. Raises InvalidOption. The options:
        queue, priority, retries, timeout, labels, concurrency_key, concurrency_limit, unique_key, unique_for, unique_states,
        on_duplicate, on_parent_failure, inherit_priority, crash_limit, delay, run_at, depends_on, id, metadata, and conn, the
        caller's own transaction.
        """
        return Enqueuer(self, EnqueueOptions(**_known(options)), _given(conn))

    async def enqueue_many(self, jobs: Sequence[Prepared[R]], *, conn: object = UNSET) -> list[Handle[R]]:
        """Store jobs, all or none; they may depend on each other."""
        return await self._stored(jobs, _given(conn))

    def enqueue_many_sync(self, jobs: Sequence[Prepared[R]], *, conn: object = UNSET) -> list[Handle[R]]:
        """As `enqueue_many`, for code that is not async."""
        return self._stored_sync(jobs, _given(conn))

    def handle(self, kind: Kind[P, R], id: UUID) -> Handle[R]:
        """The handle of a job that was enqueued elsewhere."""
        return Handle(id, kind, self.producer, self.run_sync)

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

    @property
    def health(self) -> "HealthOperations":
        """The specification's operations on the health of workers."""
        from perdure.runtime.health_operations import HealthOperations

        return HealthOperations(self)

    @property
    def state(self) -> "StateOperations":
        """The specification's operations on snapshots."""
        from perdure.runtime.state_operations import StateOperations

        return StateOperations(self)

    async def stores(self) -> "Stores":
        """The services behind this object, connected. Raises DatabaseUnavailable, SchemaMissing or SchemaOutdated."""
        return await self._database.stores()

    async def connected_settings(self) -> "Settings":
        """The settings with the database that is used, be it named or found running. Raises as `stores` does."""
        return await self._database.settings()

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of this object from code that is not async."""
        return self._database.run_sync(coroutine)

    @contextmanager
    def diverted(self, producer: Producer) -> Iterator[None]:
        """Have another producer take the jobs for a while, as `perdure.testing.inline` does."""
        before, self.producer = self.producer, producer
        try:
            yield
        finally:
            self.producer = before

    async def __aenter__(self) -> Self:
        await self._database.stores()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is under way on this event loop and give its connections back."""
        await self._database.close()

    def close_sync(self) -> None:
        """As `close`, for what blocking calls opened."""
        self._database.close_sync()


def _sealed(job: "NewJob", settings: "Settings") -> "NewJob":
    from perdure.runtime.sealing import sealed

    return sealed(job, settings.keyring, max_bytes=settings.max_payload_bytes)


def _given(conn: object) -> object:
    """The caller's connection, or None where none was given."""
    if conn is None:
        why = "is None, so that the job would be stored outside of your transaction"
        raise InvalidOption("conn", why, next_step="hand in the connection, or leave the option out")
    return None if conn is UNSET else conn


def _known(options: OptionKeywords) -> OptionKeywords:
    known = EnqueueOptions.__dataclass_fields__
    for name in options:
        if name not in known:
            raise InvalidOption(
                name, "there is no such option", next_step=f"the options are: {', '.join(known)}, conn"
            )
    return options


__all__ = ["Enqueuer", "Perdure", "Prepared"]
