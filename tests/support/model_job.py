"""One job of the model, and how the ending of an attempt counts."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from perdure.domain.job import JobState, NewJob
from perdure.domain.settlement import Cancelled, Completed, Crashed, Ending, Failed, Interrupted, Snoozed

FAR = 10**15
HEAD_STARTS = {1: 0, 2: 60_000_000, 3: 60_000_000, 4: 180_000_000, 5: 180_000_000}
SUSPECT = 2


def later(now: int, delay: timedelta | None) -> int:
    return now + FAR if delay else now


@dataclass(slots=True, kw_only=True)
class Job:
    """One job as it should be; `due` is when it may become available at the earliest."""

    new: NewJob
    state: JobState
    priority: int
    due: int
    rank: int = 0
    run: int = 1
    failures: int = 0
    crashes: int = 0
    interruptions: int = 0
    suspicion: int = 0
    parked: bool = False
    token: UUID | None = None
    slot: int | None = None
    letter: bool = False

    @property
    def place(self) -> tuple[int, UUID]:
        return self.rank, self.new.id

    @property
    def key(self) -> str | None:
        return self.new.concurrency_key

    def lets_key_go_at_start(self) -> bool:
        return self.new.unique is not None and JobState.RUNNING not in self.new.unique.states

    def leave(self, ending: Ending, now: int, crash_limit: int, interruption_limit: int) -> JobState:
        """Count the ending, and tell where it would leave the self."""
        match ending:
            case Completed():
                return JobState.COMPLETED
            case Cancelled():
                return JobState.CANCELLED
            case Snoozed(delay=delay):
                return self._wait(JobState.SCHEDULED, now, delay)
            case Failed(retry_in=delay, give_up=give_up):
                self.failures, self.suspicion = self.failures + 1, 0
                over = give_up or self.failures >= self.new.shape.max_attempts
                return JobState.DISCARDED if over else self._wait(JobState.RETRYABLE, now, delay)
            case Interrupted(started=started):
                self.interruptions += started
                over = started and self.interruptions >= interruption_limit
                return JobState.DISCARDED if over else JobState.AVAILABLE
            case Crashed(alone=alone, host_lost=host_lost):
                self.crashes += alone
                if self.crashes >= (self.new.shape.crash_limit or crash_limit):
                    return JobState.DISCARDED
                self.suspicion += 1 if host_lost else SUSPECT
                return JobState.AVAILABLE

    def _wait(self, state: JobState, now: int, delay: timedelta) -> JobState:
        self.due = later(now, delay)
        return state
