"""A handle: a job that was enqueued, as its producer holds it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from perdure.domain.durations import Duration, parse_duration
from perdure.domain.errors import JobFailed, NotFound, ResultTimeout, Unavailable
from perdure.domain.job import TERMINAL, JobState
from perdure.domain.kind import Kind
from perdure.domain.redaction import without_passwords

if TYPE_CHECKING:
    from perdure.domain.views import ActOutcome, ResultView

R_co = TypeVar("R_co", covariant=True)

FIRST_LOOK_S = 0.005
LONGEST_BETWEEN_LOOKS_S = 0.25
OUTAGE_S = 30.0


class Whereabouts(Protocol):
    """The part of a producer that a handle asks."""

    async def look(self, job_id: UUID) -> "ResultView | None": ...

    async def cancel(self, job_id: UUID, *, actor: str, reason: str) -> "ActOutcome": ...

    async def retry(self, job_id: UUID, *, actor: str, reason: str) -> "ActOutcome": ...


class Handle(msgspec.Struct, Generic[R_co], eq=False, gc=False):
    """An enqueued job; `created` is false when an earlier call had stored it already.

    A msgspec struct, as one is made for every job of a bulk call; two handles of one job are not equal.
    """

    _id: UUID | bytes
    kind: Kind[..., Any]
    _jobs: Whereabouts
    _wait: Callable[[Any], Any]
    created: bool = False

    @property
    def id(self) -> UUID:
        """The id of the job, as `Perdure.handle` takes it."""
        made = self._id
        if isinstance(made, bytes):
            made = self._id = UUID(bytes=made)
        return made

    async def state(self) -> JobState:
        """Where the job stands now. Raises NotFound once it is past the retention."""
        return (await self._view()).state

    async def result(self, timeout: Duration | None = None) -> R_co:
        """Wait for the job to end, and give its result, rebuilt from the handler's return annotation.

        Raises JobFailed when it was discarded or cancelled, ResultTimeout when it did not end in time. A database
        that goes away meanwhile is waited for, at most 30 seconds.
        """
        span = None if timeout is None else parse_duration(timeout, "timeout") / timedelta(seconds=1)
        end = float("inf") if span is None else monotonic() + span
        view, pause, seen = await self._view(), FIRST_LOOK_S, monotonic()
        while view.state not in TERMINAL:
            now = monotonic()
            if now >= end:
                raise ResultTimeout(
                    f"job {self.id} has not ended: it is {view.state}", next_step="ask again later"
                )
            await asyncio.sleep(min(pause, end - now))
            pause = min(pause * 1.5, LONGEST_BETWEEN_LOOKS_S)
            try:
                view, seen = await self._view(), monotonic()
            except Unavailable:
                if monotonic() - seen > OUTAGE_S:
                    raise
        return self._given(view)

    def result_sync(self, timeout: Duration | None = None) -> R_co:
        """As `result`, for code that is not async."""
        given: R_co = self._wait(self.result(timeout))
        return given

    def state_sync(self) -> JobState:
        """As `state`, for code that is not async."""
        state: JobState = self._wait(self.state())
        return state

    async def cancel(self, reason: str = "", *, actor: str = "program") -> "ActOutcome":
        """End the job as cancelled, or ask the worker that runs it to stop it; actor and reason stay in its history.

        Gives `CANCELLED` when it waited and has ended now; `REQUESTED` when it runs: an async handler is cancelled and a
        process is ended, a thread goes on until it looks at `Context.cancelled`, and one that completes first stays
        completed (`result` and `state` tell); `UNCHANGED` when it was asked before. Raises IllegalTransition when it
        has ended, NotFound when it is unknown, InvalidOption, and DatabaseUnavailable.
        """
        return await self._jobs.cancel(self.id, actor=actor, reason=reason)

    def cancel_sync(self, reason: str = "", *, actor: str = "program") -> "ActOutcome":
        """As `cancel`, for code that is not async."""
        outcome: ActOutcome = self._wait(self.cancel(reason, actor=actor))
        return outcome

    async def retry(self, reason: str = "", *, actor: str = "program") -> "ActOutcome":
        """Make the job available at once: one that waits for its time or a retry, or in a new run one that was discarded or cancelled.

        Gives `AVAILABLE`. Raises IllegalTransition when it is available, runs, has completed or waits for parents,
        DuplicateJob when another job holds its unique key by now, NotFound, InvalidOption, and DatabaseUnavailable.
        """
        return await self._jobs.retry(self.id, actor=actor, reason=reason)

    def retry_sync(self, reason: str = "", *, actor: str = "program") -> "ActOutcome":
        """As `retry`, for code that is not async."""
        outcome: ActOutcome = self._wait(self.retry(reason, actor=actor))
        return outcome

    async def _view(self) -> "ResultView":
        view = await self._jobs.look(self.id)
        if view is None:
            raise NotFound(
                "job", self.id, next_step="it was never committed, or its history is past the retention"
            )
        return view

    def _given(self, view: "ResultView") -> R_co:
        if view.state is JobState.COMPLETED:
            result: R_co = self.kind.result.decode(view.result)
            return result
        error = view.cause if view.error is None else f"{view.error.type}: {view.error.message}"
        raise JobFailed(
            self.id, view.state, without_passwords(error or view.cause or "no error was recorded")
        )

    def __repr__(self) -> str:
        return f"<job {self.id} {self.kind.name}>"
