"""What is remembered of an execution, the words by which it is found again, and what is asked for."""

import builtins
import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from perdure.domain.errors import InvalidOption
from perdure.domain.failure import normalised
from perdure.domain.job import JobState
from perdure.domain.settlement import ErrorReport, Outcome

LONGEST_MESSAGE = 1_000
LONGEST_ARGUMENTS = 1_000
LONGEST_WORDS = 1_500
WORDING = "1"
"""Changes with every change of `words_of`: vectors of different words are never compared."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_QUOTED = re.compile(r"(?<!\w)[bB]?(['\"`])((?:\\.|(?!\1)[^\\])*)\1(?!\w)", re.DOTALL)
_TYPES = frozenset(
    [
        *(name for name, value in vars(builtins).items() if isinstance(value, type)),
        "NoneType",
        "function",
        "module",
    ]
)
_PUNCTUATION = re.compile(r"[_.\-/:{}\"\[\],=]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What fixed a failed attempt: the job completed later, by a retry or after somebody had it run again (`how`)."""

    how: str
    run: int
    attempt: int
    at: float
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """One attempt as the history tells it; `args` is JSON, with nothing hidden yet."""

    position: int
    token: UUID
    job_id: UUID
    run: int
    attempt: int
    kind: str
    queue: str
    labels: tuple[str, ...]
    outcome: Outcome
    state: JobState
    settled_at: datetime
    available_at: datetime | None = None
    claimed_at: datetime | None = None
    finished_at: datetime | None = None
    args: str = "{}"
    error: ErrorReport | None = None
    cause: str = ""
    worker_id: UUID | None = None
    worker: str = ""
    host: str = ""
    isolated: bool = False
    resolves: bool = False

    @property
    def ran_s(self) -> float | None:
        """How long it held its lease, which is how long it ran but for the time until it started."""
        if self.claimed_at is None:
            return None
        return max(0.0, ((self.finished_at or self.settled_at) - self.claimed_at).total_seconds())

    @property
    def waited_s(self) -> float | None:
        """How long the job had been available."""
        if self.available_at is None or self.claimed_at is None:
            return None
        return max(0.0, (self.claimed_at - self.available_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """What is remembered of one attempt; secrets are hidden, long texts cut, times are seconds since 1970.

    `embedder` tells what made its vector; vectors of different ones are never compared.
    """

    token: UUID
    job_id: UUID
    run: int
    attempt: int
    kind: str
    queue: str
    outcome: str
    state: str
    settled_at: float
    embedder: str
    labels: tuple[str, ...] = ()
    args: str = "{}"
    error_type: str = ""
    message: str = ""
    cause: str = ""
    fingerprint: str = ""
    ran_s: float | None = None
    waited_s: float | None = None
    worker: str = ""
    worker_id: str = ""
    host: str = ""
    isolated: bool = False
    resolved: Resolution | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarExecution:
    """An execution like the one that was asked about; `similarity` is the cosine of their vectors, 1 for the same words."""

    similarity: float
    execution: ExecutionContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which executions are looked for; what is empty does not restrict. `failed` leaves out those that completed."""

    kind: str = ""
    queue: str = ""
    outcome: str = ""
    worker: str = ""
    fingerprint: str = ""
    since: datetime | None = None
    until: datetime | None = None
    failed: bool = False
    other_than: UUID | None = None
    least: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatus:
    """How the memory of executions stands: `behind` is the number of attempts that ended and are not remembered yet."""

    collection: str
    embedder: str
    place: str
    remembered: int
    behind: int
    behind_s: float
    updated_at: datetime | None
    searchable: bool = True
    problem: str = ""


def words_of(context: ExecutionContext) -> tuple[str, str]:
    """What stands for an execution: a failure's error without what varies, or what it was called with; and its kind."""
    kind = spoken(context.kind.rpartition(".")[2])
    if context.outcome == Outcome.COMPLETED:
        return f"completed {_PUNCTUATION.sub(' ', context.args)}"[:LONGEST_WORDS], kind
    told = [spoken(context.error_type), essence(context.message), essence(context.cause)]
    return ": ".join(part for part in told if part)[:LONGEST_WORDS] or spoken(context.outcome), kind


def asked(text: str) -> str:
    """What somebody asks for, said as what is remembered is said; a whole error message may be asked for as it stands."""
    return essence(_HUMP.sub(" ", text[:LONGEST_WORDS])).casefold() or text[:LONGEST_WORDS].casefold()


def essence(message: str) -> str:
    """A message without numbers, ids, paths and quoted values, which tell errors of one cause apart; names of types stay."""
    return " ".join(normalised(_QUOTED.sub(_kept, message)).replace("#", " ").split())


def _kept(quoted: re.Match[str]) -> str:
    value = quoted[2]
    return f" {value} " if value in _TYPES or not re.search(r"\w", value) else " # "


def spoken(name: str) -> str:
    """A name as words: `json.ConnectionResetError` as "json connection reset error"."""
    return " ".join(_HUMP.sub(" ", name).replace("_", " ").replace(".", " ").split()).casefold()


def context_of(
    attempt: EndedAttempt, *, args: str, error: ErrorReport | None, cause: str
) -> ExecutionContext:
    """What is remembered of an attempt, of which the arguments, the error and the cause have been redacted."""
    return ExecutionContext(
        token=attempt.token,
        job_id=attempt.job_id,
        run=attempt.run,
        attempt=attempt.attempt,
        kind=attempt.kind,
        queue=attempt.queue,
        labels=attempt.labels,
        outcome=str(attempt.outcome),
        state=str(attempt.state),
        settled_at=attempt.settled_at.timestamp(),
        embedder="",
        args=args[:LONGEST_ARGUMENTS],
        error_type=error.type if error else "",
        message=error.message[:LONGEST_MESSAGE] if error else "",
        cause=cause[:LONGEST_MESSAGE],
        fingerprint=error.fingerprint if error else "",
        ran_s=attempt.ran_s,
        waited_s=attempt.waited_s,
        worker=attempt.worker,
        worker_id=str(attempt.worker_id or ""),
        host=attempt.host,
        isolated=attempt.isolated,
    )


def fixed_by(context: ExecutionContext) -> str:
    """What fixed a failed attempt, in words; empty while nothing has, or when it did not fail."""
    found = context.resolved
    if found is None:
        return ""
    if found.how == "retry":
        return f"attempt {found.attempt} completed"
    why = f": {found.reason}" if found.reason else ""
    return f"{found.how} by {found.actor}{why}"


def checked_question(text: str) -> str:
    """A text that can be looked for. Raises InvalidOption."""
    if not text.strip():
        raise InvalidOption(
            "text", "must not be empty", next_step='say what is looked for: "connection reset"'
        )
    return text


def known_outcome(text: str) -> str:
    """The name of an outcome. Raises InvalidOption."""
    try:
        return str(Outcome(text.casefold()))
    except ValueError:
        raise InvalidOption(
            "outcome", f"{text!r} is none", next_step=f"the outcomes are: {', '.join(Outcome)}"
        ) from None
