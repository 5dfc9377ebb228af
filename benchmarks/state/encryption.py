"""What encrypting snapshots costs: plain and encrypted ones in turn, of one history, in one run.

    python -m benchmarks.state.encryption [--jobs 100000] [--rounds 3]

Times are medians; beside each wall time stands the processor time of this process, which other work on the machine disturbs
less. It fails when an encrypted snapshot takes more memory than a plain one may, or does not come back.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
from pydantic import SecretStr

from benchmarks.state.__main__ import MEMORY_MB, bring_back
from benchmarks.state.history import write_history
from benchmarks.state.results import Results, watched
from perdure.bench.servers import servers
from perdure.domain.sealing import Keyring
from perdure.domain.snapshot import Manifest
from perdure.domain.snapshot_sealing import PLAIN, SnapshotSealing
from perdure.runtime.settings import Settings
from perdure.services.snapshot import Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.archive import PostgresArchive
from perdure.stores.postgres.migrations import migrate

WAYS = {"plain": PLAIN, "encrypted": SnapshotSealing(Keyring({"bench": bytes(32)}), on=True)}
Times = defaultdict[str, list[tuple[float, float]]]


@asynccontextmanager
async def timed(times: Times, what: str) -> AsyncIterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    times[what].append((time.perf_counter() - wall, time.process_time() - cpu))


async def measure(url: str, folder: Path, jobs: int, rounds: int) -> Results:
    results, newest, memory = Results(), dict[str, Manifest](), defaultdict[str, float](float)
    times: Times = defaultdict(list)
    await migrate(url)
    connection = await asyncpg.connect(url)
    await write_history(connection, jobs)
    await connection.close()
    made = {
        name: Snapshots(PostgresArchive(url), ObjectVault(str(folder / name)), sealing)
        for name, sealing in WAYS.items()
    }
    for _ in range(rounds):
        for name, snapshots in made.items():
            with watched() as peak:
                async with timed(times, f"{name}: full snapshot"):
                    newest[name] = await snapshots.create()
                await asyncio.sleep(0)
                memory[name] = max(memory[name], peak())
            async with timed(times, f"{name}: verify"):
                await snapshots.verify(newest[name].id)
    for name, manifest in newest.items():
        results.tell(f"{name}: memory above the start, at most", memory[name], "MB", MEMORY_MB)
        results.tell(f"{name}: size of {manifest.rows} rows", manifest.stored_bytes / 1e6, "MB")
    for name, snapshots in made.items():
        async with timed(times, f"{name}: restore, with making the database"):
            await bring_back(url, snapshots, newest[name].id, results, name)
    for what, found in times.items():
        results.tell(what, statistics.median(wall for wall, _ in found) * 1000, "ms")
        results.tell(
            "  processor time of this process", statistics.median(cpu for _, cpu in found) * 1000, "ms"
        )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"encryption of snapshots of {options.jobs} jobs on {psutil.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="perdure-state-") as name:
        settings = Settings(database_url=SecretStr(""), data_dir=Path(name))
        with servers(settings, print, redis=False) as found:
            url = found.database_url.get_secret_value()
            results = asyncio.run(measure(url, Path(name) / "snapshots", options.jobs, options.rounds))
    print(f"missed: {', '.join(results.missed)}" if results.missed else "all limits kept")
    return 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
