"""`make bench-state`: look back on, save and bring back a million jobs; exits with 1 when a limit is missed.

    python -m benchmarks.state [--jobs 1000000] [--database-url URL] [--prepared] [--keep FOLDER]

Without a database an embedded PostgreSQL is started. `--prepared` measures the history that the database holds already.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
from pydantic import SecretStr

from benchmarks.state.history import write_history
from benchmarks.state.results import Results, watched
from perdure.bench.servers import servers
from perdure.runtime.settings import Settings
from perdure.services.read import Read
from perdure.services.snapshot import Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.archive import PostgresArchive
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.insights import PostgresInsights
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.past import PostgresPast

PAGE_MS, SNAPSHOT_S, RESTORE_S, MEMORY_MB, SHARE = 200.0, 30.0, 60.0, 250.0, 0.25
CHANGE = 100
REPEATS = 7
SECOND_DATABASE = "perdure_bench_restored"


async def timed(ask: Callable[[], Awaitable[Any]]) -> float:
    """The median time of a question in ms, the first one left out: it opens the connection."""
    await ask()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def look_back(url: str, calm: Sequence[datetime], results: Results) -> None:
    database = await PooledDatabase.open(url, application_name="bench", most=2)
    connection = await asyncpg.connect(url)
    moments = await connection.fetch("SELECT at FROM perdure.moments ORDER BY at")
    await connection.close()
    read = Read(PostgresInsights(database), PostgresPast(database))
    for name, share in (("a tenth", 0.1), ("half", 0.5), ("nearly all", 0.95)):
        at = moments[int(len(moments) * share)]["at"]
        page = await read.jobs(as_of=at)
        for words in (
            "",
            "state:available",
            "state:running",
            "state:pending",
            "state:scheduled",
            "state:discarded",
            "state:failed kind:app.kind1",
        ):
            median = await timed(partial(read.jobs, words, as_of=at))
            results.tell(f"page at {name} of the history, {words or 'all'}", median, "ms", PAGE_MS)
        for words in ("state:pending", "state:scheduled") if calm else ():
            median = await timed(partial(read.jobs, words, as_of=calm[int(len(calm) * share)]))
            results.tell(f"page at {name} of the history, {words}, of few or none", median, "ms", PAGE_MS)
        median = await timed(partial(read.job, page.jobs[0].id, as_of=at))
        results.tell(f"one job in full at {name}", median, "ms", PAGE_MS)
    began = time.perf_counter()
    await read.counts(as_of=at, budget=timedelta(minutes=1))
    results.tell("counts by state, exact, at nearly all", time.perf_counter() - began, "s")
    await database.close()


async def change(url: str, jobs: int) -> None:
    connection = await asyncpg.connect(url)
    await write_history(connection, max(100, jobs // CHANGE))
    await connection.close()


async def save(url: str, folder: Path, jobs: int, results: Results) -> tuple[Snapshots, str, str]:
    snapshots = Snapshots(PostgresArchive(url), ObjectVault(str(folder)))
    with watched() as peak:
        full = await snapshots.create()
        await asyncio.sleep(0)
        results.tell(f"full snapshot of {full.rows} rows", full.took_s, "s", SNAPSHOT_S)
        results.tell("  memory above the start", peak(), "MB", MEMORY_MB)
    results.tell("  size", full.stored_bytes / 1e6, "MB")
    results.tell("  size before compression", sum(part.bytes for part in full.parts) / 1e6, "MB")
    began = time.perf_counter()
    await snapshots.verify(full.id)
    results.tell("  verify", time.perf_counter() - began, "s")
    await change(url, jobs)
    increment = await snapshots.create(base=full.id)
    results.tell(
        f"increment of {increment.rows} rows after 1 % more jobs", increment.took_s, "s", full.took_s * SHARE
    )
    results.tell("  size", increment.stored_bytes / 1e6, "MB", full.stored_bytes / 1e6 * 0.1)
    return snapshots, full.id, increment.id


async def bring_back(url: str, snapshots: Snapshots, id: str, results: Results, what: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"DROP DATABASE IF EXISTS {SECOND_DATABASE}")
    await connection.execute(f"CREATE DATABASE {SECOND_DATABASE}")
    second = urlunsplit(urlsplit(url)._replace(path=f"/{SECOND_DATABASE}"))
    with watched() as peak:
        done = await snapshots.restore(id, PostgresArchive(second), fork=False, actor="bench")
        results.tell(
            f"restore of {what}, {sum(done.rows.values())} rows, checked first", done.took_s, "s", RESTORE_S
        )
        results.tell("  memory above the start", peak(), "MB", MEMORY_MB)
    restored = await asyncpg.connect(second)
    bodies = await restored.fetchval("SELECT count(*) FROM perdure.jobs")
    assert bodies == done.rows["jobs"], "the restored database holds other jobs"
    await restored.close()
    await connection.execute(f"DROP DATABASE {SECOND_DATABASE}")
    await connection.close()


async def measure(url: str, options: argparse.Namespace, folder: Path) -> Results:
    results = Results()
    calm: list[datetime] = []
    if not options.prepared:
        await migrate(url)
        connection = await asyncpg.connect(url)
        history = await write_history(connection, options.jobs)
        await connection.close()
        calm = history.calm
        print(
            f"  history: {history.jobs} jobs, {history.executions} attempts, written in {history.seconds:.0f} s"
        )
    await look_back(url, calm, results)
    snapshots, full, increment = await save(url, folder, options.jobs, results)
    await bring_back(url, snapshots, full, results, "the full one")
    await bring_back(url, snapshots, increment, results, "full and increment")
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--database-url", default="")
    parser.add_argument("--prepared", action="store_true")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    print(f"state of {options.jobs} jobs on {psutil.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="perdure-state-") as name:
        settings = Settings(database_url=SecretStr(options.database_url), data_dir=Path(name))
        with servers(settings, print, redis=False) as found:
            folder = options.keep or Path(name) / "snapshots"
            results = asyncio.run(measure(found.database_url.get_secret_value(), options, folder))
    print(f"missed: {', '.join(results.missed)}" if results.missed else "all limits kept")
    return 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
