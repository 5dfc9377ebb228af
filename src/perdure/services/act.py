"""Acting: every command that changes what was enqueued, each with an actor, a reason and a dry run."""

from collections.abc import Callable
from uuid import UUID

from perdure.domain.errors import DuplicateJob, IllegalTransition, InvalidOption, NotFound
from perdure.domain.filters import Filter, parse
from perdure.domain.views import ActReport
from perdure.ports import Clock, Control, Insights

Progress = Callable[[ActReport], None]
"""Told after each batch what has been done so far."""


class Act:
    """Changes jobs, queues and workers by somebody's will, and leaves an event for each change.

    Commands on one job raise: NotFound, IllegalTransition, DuplicateJob. Commands on a filter never stop at a job
    that refuses; their report counts the outcomes. With `dry_run` nothing changes: the report tells how many jobs
    match, with a sample.
    """

    def __init__(self, control: Control, insights: Insights, clock: Clock | None = None) -> None:
        self._control = control
        self._insights = insights
        self._clock = clock

    async def cancel(self, job_id: UUID, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """End a waiting job as cancelled, or ask the worker of a running one to stop; repeating it does no harm."""
        raise NotImplementedError

    async def retry(self, job_id: UUID, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """Make a retryable or scheduled job available at once, or a discarded or cancelled one in a new run."""
        raise NotImplementedError

    async def cancel_matching(
        self,
        filter: str | Filter,
        *,
        actor: str,
        reason: str = "",
        dry_run: bool = False,
        most: int | None = None,
        progress: Progress | None = None,
    ) -> ActReport:
        """Cancel every job that matches now, in batches of their own transactions. Raises InvalidFilter."""
        raise NotImplementedError

    async def retry_matching(
        self,
        filter: str | Filter,
        *,
        actor: str,
        reason: str = "",
        dry_run: bool = False,
        most: int | None = None,
        progress: Progress | None = None,
    ) -> ActReport:
        """Retry every job that matches now and can be retried. Raises InvalidFilter."""
        raise NotImplementedError

    async def replay(
        self,
        selection: UUID | str | Filter,
        *,
        actor: str,
        reason: str = "",
        dry_run: bool = False,
        sample: int | None = None,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> ActReport:
        """Give dead letters a new run: one by its job id, or those that match (`fingerprint:ab12` for a group).

        `sample` takes only the newest that many. `rate` starts that many per second: they are scheduled ahead, so that
        nobody has to stay connected.
        """
        raise NotImplementedError

    async def discard(
        self,
        selection: UUID | str | Filter,
        *,
        actor: str,
        reason: str,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> ActReport:
        """Acknowledge dead letters and take them out of the queue; their history stays, and they stay discarded."""
        raise NotImplementedError

    async def pause(self, queue: str, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """Leave a queue out of all claims; what runs goes on. Pausing twice changes nothing. Raises NotFound."""
        raise NotImplementedError

    async def resume(self, queue: str, *, actor: str, reason: str = "", dry_run: bool = False) -> ActReport:
        """Let a paused queue be claimed from again. Raises NotFound."""
        raise NotImplementedError

    async def drain(
        self, worker_id: UUID, *, actor: str, reason: str = "", dry_run: bool = False
    ) -> ActReport:
        """Ask a worker to finish what it runs and to take nothing new. Raises NotFound unless it is active."""
        raise NotImplementedError
