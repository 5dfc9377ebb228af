"""Metrics for Prometheus: the state of the whole, and what has happened since this process began to count.

They are those of the whole cluster, read from the database when they are asked for: scrape one server, once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from perdure.domain.activity import BUCKETS, Metered, MeteredAttempts
from perdure.domain.errors import Unavailable
from perdure.domain.job import JobState
from perdure.domain.views import QueueView, StatusView, WorkerView
from perdure.domain.worker import WorkerState
from perdure.runtime.wiring import Stores
from perdure.services.activity import Activity
from perdure.surfaces.web.live import Recent
from perdure.surfaces.web.part_metrics import of_parts, up
from perdure.surfaces.web.vital_metrics import of_outlooks, of_vitals

log = structlog.get_logger()
SETTLED = timedelta(seconds=5)
"""Transactions that began before have committed, or nearly all of them; what is younger is counted the next time."""
LONGEST = timedelta(minutes=10)
NAMES_MAX = 200
VITALS_KEPT_S = 5.0
OTHER = "other"
REFUSED = "result_refused"
RESCUED = frozenset({"crashed", "interrupted", "released"})
"""Outcomes of attempts that did not come to an end of their own: how many jobs others had to take over."""

EVACUATIONS = {"worker_evacuating": "begun", "worker_evacuated": "ended"}


class Labels:
    """Keeps the number of different values of a label bounded: those that come too late are called `other`."""

    def __init__(self, most: int = NAMES_MAX) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._known and len(self._known) < self._most:
            self._known.add(name)
        return name if name in self._known else OTHER


class Metrics:
    """Counters that grow with what the database says has happened, and gauges of how things stand."""

    def __init__(self, now: datetime | None = None) -> None:
        self._registry = CollectorRegistry()
        self._queue, self._kind = Labels(), Labels()
        self._counted_to = now or datetime.now(UTC)
        self._counting = asyncio.Lock()
        both = ["queue", "kind"]
        self._enqueued = self._counter("perdure_jobs_enqueued", "Jobs enqueued.", both)
        self._finished = self._counter("perdure_jobs_finished", "Jobs that ended.", [*both, "outcome"])
        self._attempts = self._counter("perdure_attempts", "Attempts that ended.", [*both, "result"])
        self._dead = self._counter("perdure_dlq_added", "Jobs that gave up.", both)
        self._events = self._counter("perdure_events", "What was done besides.", ["event"])
        self._refused = self._counter("perdure_stale_writes_refused", "Results of leases that were gone.", [])
        self._rescued = self._counter(
            "perdure_jobs_rescued", "Jobs taken from who could not end them.", ["reason"]
        )
        self._evacuations = self._counter("perdure_evacuations", "Workers emptied.", ["outcome"])
        self._notifications = self._counter(
            "perdure_notifications",
            "Tries to send a message that got through at last.",
            ["channel", "result"],
        )
        self._store_errors = self._counter("perdure_store_errors", "Readings that failed.", ["store"])
        self._waits: dict[str, list[float]] = {}
        self._runs: dict[str, list[float]] = {}
        self._whole: dict[str, list[float]] = {}
        self._claims: dict[str, list[float]] = {}

    async def text(self, opened: Callable[[], Awaitable[Stores]], recent: Recent) -> bytes:
        """Everything, in the format that Prometheus reads. A database that is away is told as such."""
        families: list[Metric] = [_build()]
        try:
            stores = await opened()
            async with self._counting:
                await self._count(stores.activity)
            status, queues, workers, vitals, outlooks = await asyncio.gather(
                recent.get("status", stores.read.status),
                recent.get("queues", stores.read.queues),
                recent.get("workers", stores.read.workers),
                recent.get("vitals", stores.alert_facts.vitals, VITALS_KEPT_S),
                recent.get("outlooks", stores.foresee.outlooks, VITALS_KEPT_S),
            )
            parts = await of_parts(stores, workers, recent)
        except Unavailable as error:
            log.warning("metrics: the database is away", error=error.message)
            self._store_errors.labels("postgresql").inc()
            families.append(up({"postgresql": False}))
        else:
            families += [
                *self._of_status(status),
                *self._of_queues(queues),
                *_of_workers(workers),
                *of_outlooks(outlooks, Labels()),
                *of_vitals(vitals, status),
                *parts,
                *self._histograms(),
            ]
        body = generate_latest(_Families([*self._registry.collect(), *families]))
        return bytes(body)

    async def _count(self, activity: Activity) -> None:
        until = datetime.now(UTC) - SETTLED
        since = max(self._counted_to, until - LONGEST)
        if until <= since:
            return
        self._add(await activity.metered(since, until))
        self._counted_to = until

    def _add(self, metered: Metered) -> None:
        for (queue, kind), jobs in metered.enqueued.items():
            self._enqueued.labels(self._queue(queue), self._kind(kind)).inc(jobs)
        for event, count in metered.events.items():
            self._events.labels(event).inc(count)
        self._refused.inc(metered.events.get(REFUSED, 0))
        for event, outcome in EVACUATIONS.items():
            self._evacuations.labels(outcome).inc(metered.events.get(event, 0))
        for finished in metered.finished:
            _observe(
                self._whole, self._queue(finished.queue), finished.bucket, finished.jobs, finished.whole_s
            )
        for bucket, claims, took_s in metered.claims:
            _observe(self._claims, "", bucket, claims, took_s)
        for (channel, result), tries in metered.notifications.items():
            self._notifications.labels(channel, result).inc(tries)
        for one in metered.attempts:
            self._add_attempts(one)

    def _add_attempts(self, one: MeteredAttempts) -> None:
        names = self._queue(one.queue), self._kind(one.kind)
        self._attempts.labels(*names, one.outcome).inc(one.attempts)
        if one.state in {JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED}:
            self._finished.labels(*names, one.state).inc(one.attempts)
        if one.outcome in RESCUED:
            self._rescued.labels(one.outcome).inc(one.attempts)
        if one.state == JobState.DISCARDED:
            self._dead.labels(*names).inc(one.attempts)
        _observe(self._waits, names[0], one.wait_bucket, one.attempts, one.wait_s)
        _observe(self._runs, names[0], one.run_bucket, one.attempts, one.run_s)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histograms(self) -> Iterable[Metric]:
        for name, text, kept, labels in (
            ("perdure_queue_wait_seconds", "From available to claimed.", self._waits, ["queue"]),
            ("perdure_run_seconds", "From the start of an attempt to its end.", self._runs, ["queue"]),
            (
                "perdure_end_to_end_seconds",
                "From the enqueue of a job to its end for good.",
                self._whole,
                ["queue"],
            ),
            (
                "perdure_claim_seconds",
                "One claim of a process, at the mean of each sample.",
                self._claims,
                [],
            ),
        ):
            family = HistogramMetricFamily(name, text, labels=labels)
            for queue, counts in kept.items():
                sums, bounds = 0.0, []
                for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts[:-1], strict=True):
                    sums += count
                    bounds.append((bound, sums))
                family.add_metric([queue] if labels else [], bounds, counts[-1])
            yield family

    def _of_status(self, status: StatusView) -> Iterable[Metric]:
        leads = 1 if status.leader and status.leader.leads else 0
        yield _gauge("perdure_leader", "Leaders of the duties; one, when all is well.", [], [([], leads)])
        yield _gauge(
            "perdure_jobs",
            "Jobs by state; large numbers are estimates.",
            ["state"],
            [([count.state], count.count) for count in status.counts or ()],
        )
        for name, text, value in (
            (
                "perdure_oldest_transaction_seconds",
                "Age of the oldest open transaction.",
                status.oldest_transaction_s,
            ),
            (
                "perdure_oldest_wait_seconds",
                "Longest wait of a job that may start.",
                status.oldest_available_s,
            ),
            ("perdure_dead_letters", "Dead letters.", status.dead_letters),
        ):
            yield _gauge(name, text, [], [([], value or 0)])

    def _of_queues(self, queues: Sequence[QueueView]) -> Iterable[Metric]:
        depth: dict[tuple[str, str], float] = {}
        for queue in queues:
            for state, count in queue.depths.items():
                key = self._queue(queue.name), str(state)
                depth[key] = depth.get(key, 0) + count
        live = [(list(key), count) for key, count in depth.items() if key[1] != JobState.DISCARDED]
        yield _gauge("perdure_queue_depth", "Jobs of a queue by state.", ["queue", "state"], live)
        dead = [([key[0]], count) for key, count in depth.items() if key[1] == JobState.DISCARDED]
        yield _gauge("perdure_dlq_depth", "Dead letters of a queue.", ["queue"], dead)
        for name, text, values in (
            (
                "perdure_queue_oldest_seconds",
                "Longest wait in a queue.",
                {q.name: q.oldest_available_s or 0.0 for q in queues},
            ),
            ("perdure_queue_paused", "Whether a queue is paused.", {q.name: float(q.paused) for q in queues}),
            (
                "perdure_queue_workers",
                "Active workers of a queue.",
                {q.name: float(q.workers) for q in queues},
            ),
        ):
            yield _gauge(name, text, ["queue"], _largest(values, self._queue))


class _Families:
    """What `generate_latest` asks of a registry."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def _build() -> Metric:
    return _gauge("perdure_build_info", "The version that runs.", ["version"], [([version("perdure")], 1)])


def _of_workers(workers: Sequence[WorkerView]) -> Iterable[Metric]:
    living = [view for view in workers if view.worker.state in {WorkerState.ACTIVE, WorkerState.DRAINING}]
    states = {"active": 0, "draining": 0, "suspect": 0}
    for view in living:
        states["suspect" if view.suspect else str(view.worker.state)] += 1
    yield _gauge(
        "perdure_workers",
        "Workers that live.",
        ["state"],
        [([name], count) for name, count in states.items()],
    )
    busy = sum(view.worker.running for view in living)
    free = max(0, sum(view.worker.capacity for view in living) - busy)
    yield _gauge(
        "perdure_worker_slots", "Slots of living workers.", ["state"], [(["busy"], busy), (["free"], free)]
    )
    silent = max((view.silent_s for view in living), default=0.0)
    yield _gauge(
        "perdure_worker_heartbeat_age_seconds", "Longest silence of a living worker.", [], [([], silent)]
    )


def _gauge(
    name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for values, value in samples:
        family.add_metric([str(one) for one in values], value)
    return family


def _largest(values: Mapping[str, float], label: Labels) -> list[tuple[list[str], float]]:
    found: dict[str, float] = {}
    for name, value in values.items():
        found[label(name)] = max(found.get(label(name), 0.0), value)
    return [([name], value) for name, value in found.items()]


def _observe(
    kept: dict[str, list[float]], queue: str, bucket: int | None, count: int, seconds: float
) -> None:
    """Count into a bucket; the last place of the list is the sum of all seconds."""
    if bucket is None:
        return
    counts = kept.setdefault(queue, [0.0] * (len(BUCKETS) + 2))
    counts[bucket] += count
    counts[-1] += seconds
