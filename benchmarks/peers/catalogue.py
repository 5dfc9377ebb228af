"""Every system that is measured: where it keeps jobs, how it is set up, and what it keeps of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.peers.waiting import Waiting, count, lengths, stream


class Store(StrEnum):
    """Where a system keeps its jobs."""

    POSTGRES = "PostgreSQL"
    REDIS = "Redis"
    BOTH = "PostgreSQL, Redis in front"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One row of the table."""

    name: str
    package: str
    environment: str
    """The file of pinned packages; systems may share one."""
    driver: str
    store: Store
    waiting: Waiting
    settings: str
    kept: str
    """What is left of a job that has ended, and when it is acknowledged where that is not after its end."""
    variant: str = ""
    slow: bool = False
    """Drains fewer jobs, so that a run does not take an hour."""
    one_command: bool = False
    """Whether one command runs all worker processes."""


PERDURE_WAITING = count(
    "SELECT (SELECT count(*) FROM perdure.available_jobs) + (SELECT count(*) FROM perdure.leases)"
    " + (SELECT count(*) FROM perdure.scheduled_jobs)"
)
PERDURE_KEEPS = "jobs, attempts and results for 7 days; every outcome fenced"

SYSTEMS = (
    System(
        name="perdure",
        package="perdure",
        environment="perdure",
        driver="perdure_driver.py",
        store=Store.POSTGRES,
        waiting=PERDURE_WAITING,
        settings="defaults: concurrency 100",
        kept=PERDURE_KEEPS,
        one_command=True,
    ),
    System(
        name="perdure-redis",
        package="perdure",
        environment="perdure",
        driver="perdure_driver.py",
        variant="redis",
        store=Store.BOTH,
        waiting=PERDURE_WAITING,
        settings="as perdure, dispatched through Redis",
        kept=PERDURE_KEEPS,
        one_command=True,
    ),
    System(
        name="celery-prefork",
        package="celery",
        environment="celery",
        driver="celery_driver.py",
        variant="prefork",
        store=Store.REDIS,
        waiting=lengths("LLEN celery", "HLEN unacked"),
        settings="prefork -c 2, prefetch 64, ignore_result",
        kept="nothing; acknowledged before the job runs (default)",
        slow=True,
    ),
    System(
        name="celery-threads",
        package="celery",
        environment="celery",
        driver="celery_driver.py",
        variant="threads",
        store=Store.REDIS,
        waiting=lengths("LLEN celery", "HLEN unacked"),
        settings="threads -c 8, prefetch 64, ignore_result",
        kept="nothing; acknowledged before the job runs (default)",
        slow=True,
    ),
    System(
        name="dramatiq",
        package="dramatiq",
        environment="dramatiq",
        driver="dramatiq_driver.py",
        store=Store.REDIS,
        waiting=lengths("HLEN dramatiq:default.msgs"),
        settings="-p 1 -t 8, blocking actor (its async middleware is slower)",
        kept="nothing",
    ),
    System(
        name="saq-redis",
        package="saq",
        environment="saq",
        driver="saq_driver.py",
        variant="redis",
        store=Store.REDIS,
        waiting=lengths("ZCARD saq:default:incomplete"),
        settings="concurrency 100, ttl=-1, uvloop",
        kept="nothing",
    ),
    System(
        name="saq-postgres",
        package="saq",
        environment="saq",
        driver="saq_driver.py",
        variant="postgres",
        store=Store.POSTGRES,
        waiting=count(
            "SELECT count(*) FROM saq_jobs WHERE status IN ('new', 'queued', 'active', 'aborting')"
        ),
        settings="concurrency 100, ttl=-1, default pool, uvloop",
        kept="nothing",
        slow=True,
    ),
    System(
        name="taskiq-stream",
        package="taskiq",
        environment="taskiq",
        driver="taskiq_driver.py",
        store=Store.REDIS,
        waiting=stream("taskiq", "taskiq"),
        settings="stream broker, --workers 1 --max-async-tasks 100 --no-parse, uvloop",
        kept="the message stays in the stream",
    ),
    System(
        name="streaq",
        package="streaq",
        environment="streaq",
        driver="streaq_driver.py",
        store=Store.REDIS,
        waiting=stream("streaq:default:queues:normal", "workers"),
        settings="concurrency 100, ttl=0, silent, uvloop",
        kept="nothing",
        slow=True,
    ),
    System(
        name="bullmq",
        package="bullmq",
        environment="node",
        driver="bullmq_driver.cjs",
        store=Store.REDIS,
        waiting=lengths("LLEN bull:peer:wait", "LLEN bull:peer:active", "ZCARD bull:peer:delayed"),
        settings="concurrency 100, removeOnComplete",
        kept="nothing",
    ),
    System(
        name="procrastinate",
        package="procrastinate",
        environment="procrastinate",
        driver="procrastinate_driver.py",
        store=Store.POSTGRES,
        waiting=count("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"),
        settings="concurrency 100, pool of 20, LISTEN/NOTIFY on",
        kept="jobs and their events for ever",
        slow=True,
    ),
    System(
        name="pgqueuer",
        package="pgqueuer",
        environment="pgqueuer",
        driver="pgqueuer_driver.py",
        store=Store.POSTGRES,
        waiting=count("SELECT count(*) FROM pgqueuer"),
        settings="batch_size 100, no cap on tasks, asyncpg pool, durable tables, uvloop",
        kept="the job is deleted, rows of a log are kept",
    ),
    System(
        name="oban",
        package="oban",
        environment="oban",
        driver="oban_driver.py",
        store=Store.POSTGRES,
        waiting=count(
            "SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing', 'scheduled', 'retryable')"
        ),
        settings="queue limit 100, default pool 1-10, uvloop",
        kept="jobs for a day",
        slow=True,
    ),
    System(
        name="graphile-worker-plain",
        package="graphile-worker",
        environment="node",
        driver="graphile_worker_driver.cjs",
        variant="plain",
        store=Store.POSTGRES,
        waiting=count("SELECT count(*) FROM graphile_worker._private_jobs"),
        settings="concurrentJobs 24, pool 24, no local queue, no batches of completions",
        kept="nothing",
    ),
    System(
        name="graphile-worker",
        package="graphile-worker",
        environment="node",
        driver="graphile_worker_driver.cjs",
        store=Store.POSTGRES,
        waiting=count("SELECT count(*) FROM graphile_worker._private_jobs"),
        settings="concurrentJobs 24, pool 24, localQueue 500, completeJobBatchDelay 0",
        kept="nothing",
    ),
)
BY_NAME: Mapping[str, System] = {system.name: system for system in SYSTEMS}
FLOORS = ("floor-postgres", "floor-redis")
"""Rows of the table that are no systems: bare statements on the same servers."""
