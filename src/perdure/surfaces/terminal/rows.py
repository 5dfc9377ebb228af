"""What the lists of the terminal view show: their columns, and a row for each thing. No text of others reaches a terminal unescaped."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from perdure.domain.activity import QueueRate
from perdure.domain.alerts.standing import AlertState, Severity
from perdure.domain.alerts.views import AlertView
from perdure.domain.durations import format_duration
from perdure.domain.job import JobState
from perdure.domain.settlement import ErrorReport
from perdure.domain.views import GroupView, JobView, QueueView, WorkerView
from perdure.services.foresee import Outlook
from perdure.surfaces.cli.text import ago, plain

LONGEST = 120
ALARMING, DOUBTFUL = "red", "yellow"
BAD = frozenset({JobState.RETRYABLE, JobState.DISCARDED})


class Tab(StrEnum):
    """The lists, in the order of their keys."""

    QUEUES = "Queues"
    WORKERS = "Workers"
    JOBS = "Jobs"
    LETTERS = "Dead letters"
    ALERTS = "Alerts"


COLUMNS: Mapping[Tab, tuple[str, ...]] = {
    Tab.QUEUES: (
        "QUEUE",
        "STATE",
        "WAIT",
        "OLDEST",
        "RUN",
        "LATER",
        "DEAD",
        "IN/S",
        "OUT/S",
        "FAIL/S",
        "WORKERS",
    ),
    Tab.WORKERS: ("WORKER", "STATE", "RUN", "HEALTH", "RISK", "SILENT", "QUEUES", "HOST", "AGE"),
    Tab.JOBS: ("STATE", "KIND", "QUEUE", "ATTEMPT", "SINCE", "ERROR", "ID"),
    Tab.LETTERS: ("LETTERS", "ERROR", "KINDS", "QUEUES", "LAST", "FINGERPRINT"),
    Tab.ALERTS: ("STATE", "WHO", "RULE", "SUMMARY", "SINCE", "RUN"),
}
"""WAIT may start now, LATER is scheduled or retried, RISK is the probability of a failure; WHO is asked to act, and RUN what to begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing of a list; `key` is its name or id, and what an act on it is told. `style` marks what is not well.

    `is_off`: a queue that is paused, a worker that is cordoned.
    """

    key: str
    cells: tuple[str, ...]
    style: str = ""
    is_off: bool = False

    def has(self, words: Iterable[str]) -> bool:
        """Whether every word is found in it, whatever its case."""
        text = " ".join(self.cells).casefold()
        return all(word.casefold() in text for word in words)


def queue_row(queue: QueueView, rate: QueueRate | None) -> Row:
    def depth(*states: JobState) -> str:
        return count(sum(queue.depths.get(state, 0) for state in states), approximate=queue.approximate)

    return Row(
        key=queue.name,
        cells=(
            line(queue.name),
            "paused" if queue.paused else "open",
            depth(JobState.AVAILABLE),
            span(queue.oldest_available_s),
            depth(JobState.RUNNING),
            depth(JobState.SCHEDULED, JobState.RETRYABLE),
            depth(JobState.DISCARDED),
            pace(rate.arriving if rate else None),
            pace(rate.finishing if rate else None),
            pace(rate.failing if rate else None),
            str(queue.workers),
        ),
        style=DOUBTFUL if queue.paused or queue.unserved else "",
        is_off=queue.paused,
    )


def worker_row(view: WorkerView, outlook: Outlook | None, now: datetime) -> Row:
    worker = view.worker
    state = "cordoned" if worker.cordoned and worker.state == "active" else plain(worker.state)
    return Row(
        key=str(worker.id),
        cells=(
            line(worker.name),
            f"{state}, suspect" if view.suspect else state,
            f"{worker.running}/{worker.capacity}",
            "" if outlook is None else f"{outlook.score.value:.2f}",
            "" if outlook is None else f"{outlook.prediction.probability:.0%}",
            span(view.silent_s),
            line(",".join(worker.queues), 40),
            line(worker.host),
            span((now - worker.started_at).total_seconds()),
        ),
        style=ALARMING if view.suspect else "" if state == "active" else DOUBTFUL,
        is_off=worker.cordoned,
    )


def job_row(job: JobView, now: datetime) -> Row:
    return Row(
        key=str(job.id),
        cells=(
            plain(job.state),
            line(job.kind, 40),
            line(job.queue, 20),
            f"{job.attempt}/{job.max_attempts}",
            ago(job.since, now),
            line(job.error, 60),
            str(job.id),
        ),
        style=DOUBTFUL if job.state in BAD else "",
    )


def group_row(group: GroupView, now: datetime) -> Row:
    return Row(
        key=group.fingerprint,
        cells=(
            f"{group.count:,}",
            line(_words(group.error) or group.cause, 60),
            line(", ".join(group.kinds), 30),
            line(", ".join(group.queues), 20),
            ago(group.last_at, now),
            line(group.fingerprint, 20),
        ),
    )


def alert_row(alert: AlertView, now: datetime) -> Row:
    silenced = alert.silenced_until is not None
    fires = alert.state is AlertState.FIRING and not silenced
    return Row(
        key=f"{alert.rule} {alert.target}",
        cells=(
            "silenced" if silenced else plain(alert.state),
            plain(alert.severity),
            line(alert.rule),
            line(alert.summary),
            ago(alert.since, now),
            line(alert.command),
        ),
        style="" if not fires else ALARMING if alert.severity is Severity.PAGE else DOUBTFUL,
    )


def by_worker(outlooks: Iterable[Outlook]) -> Mapping[UUID, Outlook]:
    """What is expected of each worker, by its id."""
    return {outlook.vitals.worker.id: outlook for outlook in outlooks}


def line(text: str | None, most: int = LONGEST) -> str:
    """A text of others in one line, cut off after `most` characters."""
    whole = plain(" ".join((text or "").split()))
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"


def count(number: int | None, *, approximate: bool = False) -> str:
    """A number of things; one that is only known to be about so large says so."""
    return "?" if number is None else f"{'~' if approximate else ''}{number:,}"


def pace(a_second: float | None) -> str:
    """So many a second."""
    return "" if a_second is None else f"{a_second:,.0f}" if a_second >= 100 else f"{a_second:.1f}"


def span(seconds: float | None) -> str:
    """How long, in whole seconds or in larger units where they do."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    unit = next(size for size in (86_400, 3_600, 60, 1) if whole >= 100 * size or size == 1)
    return format_duration(timedelta(seconds=whole // unit * unit))


def _words(error: ErrorReport | None) -> str:
    return f"{error.type}: {error.message}" if error else ""
