"""What a claim and a settlement cost the server, beside variants of their statements.

    python -m benchmarks.variants DATABASE_URL [--claim FILE ...] [--settle FILE ...] [--rounds 3]

A file holds one statement as `sql/dispatch.sql` and `sql/jobs.sql` do, with its header. The statements take turns on the same jobs
and the same two connections, so that what else the machine does falls on all alike. The server must run on this machine (Linux). Prints
microseconds of processor a job: the least tenth, the least quarter and the median of all batches.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from random import randbytes
from typing import Any
from uuid import uuid4

from benchmarks.costs import processor_ns
from perdure.domain.ids import JobIds
from perdure.domain.job import NewJob, Shape
from perdure.domain.worker import NewWorker, WorkerId
from perdure.runtime.event_loop import quick_loop
from perdure.stores.postgres.connections import Connection, DedicatedDatabase, PooledDatabase, connect
from perdure.stores.postgres.dispatch import CLAIM_SETTINGS, tokens
from perdure.stores.postgres.figures import drop_schema
from perdure.stores.postgres.jobs import SETTLE_SETTINGS, PostgresJobs
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.plain import PlainJobs
from perdure.stores.postgres.sole_caller import SoleCallerDatabase
from perdure.stores.postgres.statements import Statement, parsed, statements
from perdure.stores.postgres.watermarks import ENDLESS, FIRST_RANK
from perdure.stores.postgres.workers import PostgresWorkers

SCHEMA = "perdure_bench"
JOBS = 40_000
BULK = 2_000
BATCH = 300
WARM = 3
"""Batches of each variant that do not count."""

Variants = Mapping[str, Statement]
Times = dict[tuple[str, str], list[float]]


def variants(module: str, name: str, files: list[Path]) -> Variants:
    """The statement as it is, and those of the files."""
    found = {"as it is": statements(module, SCHEMA)[name]}
    for file in files:
        (found[file.name],) = parsed(file.read_text("utf-8"), SCHEMA).values()
    return found


async def fill(url: str, worker: WorkerId) -> int:
    """Jobs of one lane and a worker that may claim them; gives the lane."""
    database = DedicatedDatabase(url, application_name="variants")
    bulk = await PooledDatabase.open(url, application_name="variants", most=1)
    singles = SoleCallerDatabase(url, application_name="variants")
    plain = PlainJobs(singles, bulk, schema=SCHEMA)
    ids = JobIds(time.time_ns, randbytes)

    def new() -> NewJob:
        return NewJob(id=ids(), shape=Shape(queue="bench", kind="noop"), args='{"n":1}')

    await PostgresJobs(database, schema=SCHEMA).enqueue([new()])
    terms: Any = {"queues": ("bench",), "kinds": ("noop",), "labels": (), "capacity": 100, "processes": 1}
    await PostgresWorkers(database, schema=SCHEMA).register(
        NewWorker(id=worker, name="variants", host="here", pid=1, type="bench", version="", **terms)
    )
    lane = 0
    for _ in range(0, JOBS, BULK):
        places = await plain.many([new() for _ in range(BULK)])
        lane = places[0].lane if places else lane
    for opened in (singles, bulk, database):
        await opened.close()
    return lane


async def timed(connection: Connection, statement: Statement, *values: object) -> tuple[list[Any], float]:
    """The rows, and the microseconds that the server's process has used."""
    pid = connection.get_server_pid()
    before = processor_ns(pid)
    rows = await connection.fetch(statement.numbered(), *values)
    return rows, (processor_ns(pid) - before) / 1000


async def round_of(url: str, claims: Variants, settles: Variants, times: Times) -> None:
    """Claim and settle all jobs, the variants in turn."""
    await drop_schema(url, SCHEMA)
    await migrate(url, schema=SCHEMA)
    worker = WorkerId(uuid4())
    lane = await fill(url, worker)
    claiming = await connect(url, application_name="variants: claims", more=CLAIM_SETTINGS)
    settling = await connect(url, application_name="variants: settles", more=SETTLE_SETTINGS)
    floor, turn = FIRST_RANK, 0
    while True:
        claim, settle = (list(one)[turn % len(one)] for one in (claims, settles))
        terms: dict[str, object] = {
            "lanes": [lane] * 3,
            "bands": [0, 1, 2],
            "floors": [floor] * 3,
            "below": ENDLESS,
            "few": BATCH,
            "most": BATCH,
        }
        terms |= {
            "worker_id": worker,
            "process": 1,
            "isolated": False,
            "grace_ms": 5000,
            "tokens": tokens(BATCH),
        }
        rows, took = await timed(claiming, claims[claim], *(terms[name] for name in claims[claim].parameters))
        if not rows:
            break
        floor = rows[-1]["rank"]
        held = [row["job_id"] for row in rows], [row["token"] for row in rows]
        us = [100] * len(rows)
        _, took_settling = await timed(settling, settles[settle], *held, [], us, us)
        if len(rows) == BATCH and turn >= WARM * max(len(claims), len(settles)):
            times.setdefault(("claim", claim), []).append(took / BATCH)
            times.setdefault(("settle", settle), []).append(took_settling / BATCH)
        turn += 1
    await claiming.close()
    await settling.close()
    await drop_schema(url, SCHEMA)


async def run(options: argparse.Namespace) -> None:
    claims = variants("dispatch", "claim", options.claim)
    settles = variants("jobs", "settle_completed", options.settle)
    times: Times = {}
    for _ in range(options.rounds):
        await round_of(options.database_url, claims, settles, times)
    for (what, name), all_of in sorted(times.items()):
        all_of.sort()
        tenth, quarter, half = (all_of[len(all_of) // part] for part in (10, 4, 2))
        print(f"{what:7} {name:30} {tenth:7.2f} {quarter:7.2f} {half:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database_url")
    parser.add_argument("--claim", type=Path, nargs="*", default=[])
    parser.add_argument("--settle", type=Path, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
