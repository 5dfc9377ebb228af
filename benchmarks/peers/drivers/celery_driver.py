"""Celery on Redis."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from celery import Celery
from driving import BIN, DEFAULTS, REDIS_URL, VARIANT, Producer, concurrency, run_blocking

app = Celery("peers", broker=REDIS_URL)
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


@app.task(name="job")
def job(n: int) -> None:
    run_blocking(n)


def prepare() -> None:
    """Nothing: its lists appear when they are needed."""


@asynccontextmanager
async def producer() -> AsyncIterator[Producer]:
    yield Producer(one=job.delay)


def worker() -> Sequence[str]:
    pool, slots = ("threads", 8) if VARIANT == "threads" else ("prefork", 2)
    command = [str(BIN / "celery"), "-A", "celery_driver", "worker", "-l", "warning", "-P", pool]
    command += ["-c", str(concurrency(slots)), "-n", f"peer{os.getpid()}@%h"]
    return command if DEFAULTS else [*command, "--prefetch-multiplier", str(64 // slots)]
