"""`make bench-web`: how long pages take over a large past and under traffic; exits with 1 when a limit is missed.

    python -m benchmarks.web [--live 20000] [--past 200000] [--rate 2000] [--rounds 20] [--database-url URL] [--prepared]

Without a database an embedded PostgreSQL is started. `--prepared` measures what the database holds already. The answers that pages
share for two seconds have expired when a page is asked for again, so each time is that of a visitor who comes alone.
"""

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import psutil
from pydantic import SecretStr

from benchmarks.state.history import MARK
from benchmarks.state.results import Results
from benchmarks.web.fixture import traffic, write
from perdure.bench.servers import servers
from perdure.runtime.duties import LEVELS_S, ROLL_UP_S
from perdure.runtime.loops import every
from perdure.runtime.settings import Settings
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.levels import PostgresLevels
from perdure.stores.postgres.migrations import migrate
from perdure.stores.postgres.rollups import PostgresRollups
from perdure.surfaces.web.serve import served

PAGE_P95_MS, PAGE_MAX_MS, FIRST_PAGE_KB, VERSION_MS, DASHBOARDS, MORE = 200.0, 2_000.0, 100.0, 120.0, 100, 1.5
EXPIRED_S = 2.2
MINUTE_OVER_S = 90.0
"""A million jobs that wait are measured, and not a million that came within the minute that every page counts."""
WATCHED_S = 10.0
FILTERS = ("", "state:failed", "state:completed", "kind:app.kind1", "args.user_id:42", "error~reset since:1h")


async def roll_up(url: str, results: Results) -> None:
    """Count the minutes of the past as the leader does, from nothing."""
    database = await PooledDatabase.open(url, application_name="bench", most=2)
    began, rounds = time.perf_counter(), [0.0]
    rollups = PostgresRollups(database)
    while True:
        at = time.perf_counter()
        counted = await rollups.run_once()
        rounds.append((time.perf_counter() - at) * 1e3)
        if counted < 10:
            break
    at = time.perf_counter()
    await PostgresLevels(database).run_once()
    results.tell("levels: all that lives counted by the leader", (time.perf_counter() - at) * 1e3, "ms")
    results.tell("rollups: a day made up for", time.perf_counter() - began, "s")
    results.tell("rollups: a round of the leader afterwards", rounds[-1], "ms")
    await database.close()


@asynccontextmanager
async def leader(url: str) -> AsyncIterator[None]:
    """Counts beside the traffic, as often as whoever leads does."""
    database = await PooledDatabase.open(url, application_name="bench", most=2)
    rollups, levels = PostgresRollups(database), PostgresLevels(database)
    duties = [
        asyncio.create_task(every(ROLL_UP_S, rollups.run_once, name="rollups")),
        asyncio.create_task(every(LEVELS_S, levels.run_once, name="levels")),
    ]
    try:
        yield
    finally:
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
        await database.close()


async def paths(url: str) -> Sequence[str]:
    """The pages that are measured."""
    connection = await asyncpg.connect(url)
    letter = await connection.fetchval("SELECT job_id FROM perdure.dead_letter_queue LIMIT 1")
    await connection.execute(MARK)
    await connection.close()
    then = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    queries = [f"/jobs?filter={one}" if one else "/jobs" for one in FILTERS]
    menu = (
        "/",
        "/queues",
        "/workers",
        "/dead-letters",
        "/flows",
        "/snapshots",
        "/database",
        "/alerts",
        "/runbooks",
        "/audit",
    )
    remembered = ("/", "/jobs", "/queues", "/workers", "/dead-letters", "/audit", f"/jobs/{letter}")
    return [
        *menu,
        *queries,
        f"/jobs/{letter}",
        f"/flows/{letter}",
        "/runbooks/PerdureNoWorkers",
        "/act/replay?filter=",
        *(f"{path}?as_of={then}" for path in remembered),
    ]


@dataclass
class Asked:
    """The times of a page in ms, and how often it was refused because the database took too long."""

    times: list[float] = field(default_factory=list)
    refused: int = 0


async def pages(address: str, wanted: Sequence[str], rounds: int) -> Mapping[str, Asked]:
    """Ask for each page in each round."""
    asked = {path: Asked() for path in wanted}
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        await client.get("/livez")  # the start of the server is no page's time
        for _ in range(rounds):
            for path in wanted:
                began = time.perf_counter()
                answer = await client.get(path)
                asked[path].times.append((time.perf_counter() - began) * 1e3)
                asked[path].refused += answer.status_code == 503
                if answer.status_code not in {200, 503}:
                    raise SystemExit(f"{path} was answered with {answer.status_code}: {answer.text[:300]}")
            await asyncio.sleep(EXPIRED_S)
    return asked


async def transactions(url: str, address: str, dashboards: int) -> float:
    """Transactions a second while so many dashboards show Now, beside those of the traffic."""
    connection = await asyncpg.connect(url)
    count = "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = current_database()"

    async def watch(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/live?page=/") as stream:
            async for _ in stream.aiter_raw():
                pass

    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=address, timeout=60, limits=limits)
        )
        watching = [asyncio.create_task(watch(client)) for _ in range(dashboards)]
        await asyncio.sleep(EXPIRED_S + 1)  # the counts of the server are a second old
        before = await connection.fetchval(count)
        await asyncio.sleep(WATCHED_S)
        after = await connection.fetchval(count)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    await connection.close()
    return float(after - before) / WATCHED_S


async def first_page(address: str) -> float:
    """What a new visitor loads for Now, in KB as it goes over the wire."""
    async with httpx.AsyncClient(base_url=address, headers={"accept-encoding": "gzip"}, timeout=60) as client:
        answer = await client.get("/")
        loaded = answer.num_bytes_downloaded
        for path in sorted(set(re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text))):
            loaded += (await client.get(path)).num_bytes_downloaded
    return loaded / 1e3


def version_ms() -> float:
    """The median time of `perdure --version`."""
    program, times = str(Path(sys.executable).with_name("perdure")), []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([program, "--version"], check=True, capture_output=True)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


async def measure(settings: Settings, options: argparse.Namespace) -> Results:
    results, url = Results(), settings.database_url.get_secret_value()
    if not options.prepared:
        await migrate(url)
        seconds = await write(url, live=options.live, past=options.past)
        results.tell(f"fixture of {options.live:,} live and {options.past:,} past jobs", seconds, "s")
        await asyncio.sleep(MINUTE_OVER_S)
    await roll_up(url, results)
    wanted = await paths(url)
    async with traffic(url, options.rate) as done, leader(url), served(settings) as server:
        address, began = server.address.rstrip("/"), time.monotonic()
        for path, one_page in (await pages(address, wanted, options.rounds)).items():
            times = one_page.times
            p95 = statistics.quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else times[0]
            shown = re.sub(r"as_of=\S+", "as_of=…", re.sub(r"[0-9a-f-]{36}", "ID", path))
            results.tell(f"{shown}: p95", p95, "ms", PAGE_P95_MS)
            results.tell(f"{shown}: longest", max(times), "ms", PAGE_MAX_MS)
            results.tell(f"{shown}: quickest", min(times), "ms")
            if one_page.refused:
                results.tell(f"{shown}: refused for want of time", one_page.refused, "", 0)
        results.tell("jobs a second meanwhile", done[0] / (time.monotonic() - began), "/s")
        one = await transactions(url, address, 1)
        many = await transactions(url, address, DASHBOARDS)
        results.tell("transactions a second, one dashboard", one, "/s")
        results.tell(f"transactions a second, {DASHBOARDS} dashboards", many, "/s", one * MORE)
        results.tell("first page with all it needs, gzipped", await first_page(address), "KB", FIRST_PAGE_KB)
    results.tell("perdure --version", version_ms(), "ms", VERSION_MS)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--live", type=int, default=20_000)
    parser.add_argument("--past", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--database-url", default="")
    parser.add_argument("--prepared", action="store_true")
    options = parser.parse_args()
    print(f"pages over {options.past:,} past jobs at {options.rate:,} jobs/s on {psutil.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="perdure-web-") as name:
        settings = Settings(database_url=SecretStr(options.database_url), data_dir=Path(name), web_port=0)
        with servers(settings, print, redis=False) as found:
            results = asyncio.run(measure(found, options))
    if results.missed:
        print(f"missed: {', '.join(results.missed)}")
    return 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
