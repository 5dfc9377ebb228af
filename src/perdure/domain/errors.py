"""Every error that Perdure raises, in three families.

    PerdureError
    ├── InvalidInput            the caller is wrong: mend the call (exit code 2, HTTP 4xx)
    │   ├── InvalidOption           an option of a job, a worker or a command
    │   │   └── BrokenApplication       an application that cannot be imported or has no jobs
    │   ├── InvalidArguments        arguments that do not fit the handler
    │   ├── PayloadTooLarge         arguments or a result over the size limit
    │   ├── UnknownKind             no handler of that name is known here
    │   ├── UnknownParent           depends_on names a job that does not exist
    │   ├── DependencyCycle         the dependencies of a batch form a circle
    │   ├── DependencyTooDeep       a chain of dependencies is longer than the limit
    │   ├── InvalidFilter           a filter that does not parse
    │   ├── PastUnknown             a moment that cannot be looked back to
    │   └── InvalidSettings         a setting that cannot be used
    ├── ExtraMissing            an optional package is not installed; the message has the command
    ├── NotFound                no such job, worker, queue or dead letter
    ├── Conflict                the world moved on (exit code 4, HTTP 409)
    │   ├── ClaimLost               the lease is gone: another worker owns the job, or it has ended
    │   ├── WorkerGone              the worker was declared dead or has ended: it may not claim
    │   ├── IllegalTransition       the job's state does not allow this
    │   ├── DuplicateJob            another job holds the unique key
    │   ├── SnapshotUnusable        a snapshot that is damaged, half, too new or of another system
    │   │   └── SnapshotLocked          its key is not here
    │   ├── ModelUnusable           a model that is damaged, was changed or is of another system
    │   └── NotEmpty                a restore would write over what is there
    ├── ResultUnavailable       a job that ended without a result, or has not ended in time
    │   ├── JobFailed
    │   └── ResultTimeout
    └── Unavailable             a server is away or not ready (exit code 6, HTTP 503)
        ├── DatabaseUnavailable
        ├── RollbackDetected        the database went back in time, or is another one
        ├── RedisUnavailable
        ├── SnapshotsUnavailable
        ├── MemoryUnavailable
        ├── NotifierFailed          a message about an alert did not get through
        ├── SchemaMissing
        ├── SchemaOutdated
        └── SchemaTooNew

A message says what happened and why; `next_step` says what to do about it.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID


class PerdureError(Exception):
    """The root of all errors raised on purpose."""

    next_step: str = ""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        if next_step:
            self.next_step = next_step
        if self.next_step:
            self.add_note(f"next: {self.next_step}")  # shown below an uncaught error's traceback

    @property
    def message(self) -> str:
        """What happened and why, in one sentence."""
        return str(self.args[0])


class InvalidInput(PerdureError):
    """The caller gave something that cannot be used; `field` names it."""

    def __init__(self, field: str, why: str, *, next_step: str = "") -> None:
        super().__init__(f"{field}: {why}", next_step=next_step)
        self.field = field
        self.why = why


class InvalidOption(InvalidInput):
    """An option has a value that it cannot have."""


class BrokenApplication(InvalidOption):
    """An application cannot be imported, or has no jobs; `trace` is what Python says of it, from the user's code on."""

    def __init__(self, why: str, *, next_step: str = "", trace: str = "") -> None:
        super().__init__("app", why, next_step=next_step or "mend it; the whole traceback comes with -vv")
        self.trace = trace
        if trace:
            self.add_note(trace)


class InvalidArguments(InvalidInput):
    """The arguments of a job do not fit its handler."""


class PayloadTooLarge(InvalidInput):
    """Encoded arguments or a result exceed the size limit."""


class UnknownKind(InvalidInput):
    """No handler of that kind is registered here."""


class UnknownParent(InvalidInput):
    """A job depends on a job that does not exist."""

    def __init__(self, parent_id: UUID) -> None:
        super().__init__(
            "depends_on",
            f"there is no job {parent_id}",
            next_step="enqueue the parent first, or in the same call",
        )
        self.parent_id = parent_id


class DependencyCycle(InvalidInput):
    """The dependencies form a circle, so that no job in it could ever start."""

    def __init__(self, job_ids: Sequence[UUID]) -> None:
        path = " -> ".join(str(job_id) for job_id in job_ids)
        super().__init__("depends_on", f"the jobs wait for each other: {path}")
        self.job_ids = tuple(job_ids)


class DependencyTooDeep(InvalidInput):
    """A chain of dependencies is longer than the limit."""


class InvalidFilter(InvalidInput):
    """A filter does not parse; the message shows where."""


class PastUnknown(InvalidInput):
    """Nothing is remembered of the moment asked for; `earliest` is the first that can be looked back to."""

    def __init__(self, why: str, *, earliest: datetime | None = None, next_step: str = "") -> None:
        super().__init__("as_of", why, next_step=next_step)
        self.earliest = earliest


class InvalidSettings(InvalidInput):
    """A setting cannot be used."""


class ExtraMissing(PerdureError):
    """An optional package is needed that is not installed; `extra` is the extra that brings it."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"{package} is needed for this and is not installed", next_step=f"pip install 'perdure[{extra}]'"
        )
        self.package = package
        self.extra = extra


class NotFound(PerdureError):
    """The thing asked for does not exist."""

    def __init__(self, what: str, key: object, *, next_step: str = "") -> None:
        super().__init__(f"there is no {what} {key}", next_step=next_step)
        self.what = what
        self.key = key


class Conflict(PerdureError):
    """The world moved on between the caller's look and the caller's step."""


class ClaimLost(Conflict):
    """The lease is gone: the job was given to another worker, or it has ended."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(
            f"the lease on job {job_id} is gone, so its result was not accepted",
            next_step="undo what the handler did, or let the other attempt repeat it",
        )
        self.job_id = job_id


class WorkerGone(Conflict):
    """The worker was declared dead, has ended or was never registered: its leases are gone and it may not claim."""

    next_step = "register anew, under another id"

    def __init__(self, worker_id: UUID) -> None:
        super().__init__(f"worker {worker_id} is not alive by its row and may not claim")
        self.worker_id = worker_id


class IllegalTransition(Conflict):
    """The job's present state does not allow this step."""

    def __init__(self, job_id: UUID, state: str, verb: str, *, next_step: str = "") -> None:
        super().__init__(f"job {job_id} is {state} and cannot be {verb}", next_step=next_step)
        self.job_id = job_id
        self.state = state


class DuplicateJob(Conflict):
    """Another job holds the unique key; `holder` is its id."""

    def __init__(self, key: str, holder: UUID) -> None:
        super().__init__(
            f"unique key {key!r} is held by job {holder}; nothing was enqueued",
            next_step='pass on_duplicate="return" to get the other job instead of this error',
        )
        self.key = key
        self.holder = holder


class SnapshotUnusable(Conflict):
    """A snapshot cannot be used; `part` names the file that is wrong, where it is one. Nothing was touched."""

    def __init__(self, snapshot: str, why: str, *, part: str = "", next_step: str = "") -> None:
        where = f"snapshot {snapshot}, {part}" if part else f"snapshot {snapshot}"
        super().__init__(f"{where}: {why}", next_step=next_step)
        self.snapshot = snapshot
        self.part = part


class SnapshotLocked(SnapshotUnusable):
    """A snapshot was encrypted with a key that is not here; `key` is the id of that key. Nothing was touched."""

    def __init__(self, snapshot: str, key: str, why: str, *, next_step: str) -> None:
        super().__init__(snapshot, why, next_step=next_step)
        self.key = key


class ModelUnusable(Conflict):
    """A trained model cannot be used; the champion stays, or predictions go on without a model."""

    next_step = "train another: perdure model train"

    def __init__(self, model: object, why: str) -> None:
        super().__init__(f"model {model}: {why}")
        self.model = model


class NotEmpty(Conflict):
    """The database to restore into holds jobs already."""


class ResultUnavailable(PerdureError):
    """A job has no result to give."""


class JobFailed(ResultUnavailable):
    """The awaited job ended without success; `error` is its last error."""

    def __init__(self, job_id: UUID, state: str, error: str) -> None:
        super().__init__(f"job {job_id} ended {state}: {error}")
        self.job_id = job_id
        self.state = state
        self.error = error


class ResultTimeout(ResultUnavailable):
    """The awaited job did not end in the time given; it goes on running."""


class Unavailable(PerdureError):
    """A server that is needed cannot be used just now."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer."""

    next_step = "check that the server runs and that PERDURE_DATABASE_URL is right, then `perdure doctor`"


class Locked(DatabaseUnavailable):
    """PostgreSQL answers, but what is to be changed waits for a transaction that somebody holds open."""

    next_step = "pg_stat_activity and pg_locks tell who waits for whom; it goes on when that transaction ends"


class RollbackDetected(Unavailable):
    """The database went back in time or was moved: nothing is claimed or enqueued until somebody adopts it."""

    next_step = "see `perdure db epochs`; when this database is the one to go on with, run `perdure db adopt`"


class RedisUnavailable(Unavailable):
    """Redis does not answer or is set up in a way that would drop work."""


class SnapshotsUnavailable(Unavailable):
    """The folder or the object store of the snapshots cannot be used."""


class MemoryUnavailable(Unavailable):
    """The memory of executions cannot be asked: Qdrant does not answer, or none is set. Jobs are not concerned."""

    next_step = "see `perdure memory status`; jobs go on without it"


class NotifierFailed(Unavailable):
    """A message about an alert did not get through on a channel; `channel` names it. The message never holds a secret."""

    def __init__(self, channel: str, why: str, *, next_step: str = "") -> None:
        super().__init__(f"{channel}: {why}", next_step=next_step)
        self.channel = channel


class SchemaMissing(Unavailable):
    """The database has no Perdure tables."""

    next_step = "run `perdure db migrate`"


class SchemaOutdated(Unavailable):
    """The database lacks migrations that this program needs."""

    next_step = "run `perdure db migrate`"


class SchemaTooNew(Unavailable):
    """The database was migrated by a newer program than this one."""

    next_step = "upgrade this program; it will not touch a schema it does not know"
