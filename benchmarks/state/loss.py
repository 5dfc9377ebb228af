"""`make bench-loss`: lose a million jobs while they are worked on, and bring them back; exits with 1 when one is missing.

    python -m benchmarks.state.loss [--jobs 1000000] [--live 250000] [--rate 200] [--redis] [--json FILE] [--database-url URL]

A full snapshot, increments and a recovery to a time are taken while a worker settles and a producer enqueues, each some hundreds of
jobs a second. Then the database is dropped under them, and brought back from the last increment while the producer goes on trying.
Without a database an embedded PostgreSQL is started; one that is named is dropped.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import psutil
from pydantic import SecretStr

from benchmarks.state.producing import Ledger
from benchmarks.state.results import Results, watched
from benchmarks.state.standings import SETTLED, Standings, differing, done_before, lacking, standings
from benchmarks.state.work import runs_of
from benchmarks.state.world import (
    HELD,
    Place,
    hold_some,
    lose,
    make_world,
    producing,
    second_database,
    working,
)
from perdure.bench.servers import servers
from perdure.domain.snapshot import Manifest
from perdure.runtime.settings import Settings
from perdure.services.check import Check
from perdure.services.snapshot import Snapshots
from perdure.stores.objects.vault import ObjectVault
from perdure.stores.postgres.archive import PostgresArchive
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.history import PostgresHistory

SNAPSHOT_S, RESTORE_S, MEMORY_MB, WORK_AGAIN_S = 60.0, 120.0, 250.0, 30.0
"""On two cores that the work under way has, too; alone, a snapshot has half of it, and so has a restore."""
CALM_S = 20.0
BETWEEN_S = 10.0
INCREMENTS = 3
CLOCKS_S = 0.05
"""What is answered so shortly before a cut may not be in it."""


class Loss:
    """The steps, in order; `measure` goes through them."""

    def __init__(self, place: Place, results: Results) -> None:
        self._place = place
        self._results = results
        self._vault = ObjectVault(str(place.folder / "snapshots"))
        self._snapshots = Snapshots(PostgresArchive(place.url), self._vault)

    async def measure(self, rate: float) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(working(self._place))
            stack.enter_context(producing(self._place, rate))
            await hold_some(self._place)
            await asyncio.sleep(BETWEEN_S)
            await self._load("before anything", CALM_S)
            newest = await self._save()
            await self._recover()
            last, then = await self._last_increment(newest)
            await asyncio.sleep(BETWEEN_S / 2)
            lost = time.time()
            await lose(self._place.url)
            restored = await self._bring_back(lost)
            await stack.enter_async_context(working(self._place))
            await self._works_again(lost, restored)
            await self._load("after the restore", CALM_S)
        await self._nothing_is_lost(last, then, lost)
        await self._promises_hold()

    async def _load(self, when: str, seconds: float) -> None:
        began = time.time()
        await asyncio.sleep(seconds)
        await self._told_of_load(when, began, time.time())

    async def _told_of_load(self, when: str, began: float, ended: float) -> None:
        stored = [one.took_ms for one in Ledger.read(self._place.ledger).between(began, ended)]
        connection = await asyncpg.connect(self._place.url)
        span = (datetime.fromtimestamp(began, UTC), datetime.fromtimestamp(ended, UTC))
        settled = await connection.fetchval(SETTLED, *span)
        await connection.close()
        self._results.tell(f"{when}: enqueued", len(stored) / (ended - began), "/s")
        self._results.tell(f"{when}: settled", settled / (ended - began), "/s")
        if len(stored) > 100:
            cuts = statistics.quantiles(stored, n=100)
            self._results.tell(f"{when}: enqueue p50", cuts[49], "ms")
            self._results.tell(f"{when}: enqueue p99", cuts[98], "ms")

    async def _save(self) -> Manifest:
        """A full snapshot and increments, under load."""
        began = time.time()
        with watched() as peak:
            newest = await self._snapshots.create()
            self._results.tell(
                f"full snapshot of {newest.rows} rows under load", newest.took_s, "s", SNAPSHOT_S
            )
            self._results.tell("  memory above the start", peak(), "MB", MEMORY_MB)
        self._results.tell("  size", newest.stored_bytes / 1e6, "MB")
        await self._told_of_load("during the full snapshot", began, time.time())
        for _ in range(INCREMENTS - 1):
            await asyncio.sleep(BETWEEN_S)
            newest = await self._increment(newest)
        return newest

    async def _increment(self, base: Manifest) -> Manifest:
        made = await self._snapshots.create(base=base.id)
        since = (made.at - base.at).total_seconds()
        self._results.tell(f"increment of {made.rows} rows of {since:.0f} s", made.took_s, "s")
        return made

    async def _recover(self) -> None:
        """A recovery of the living system to a time between two snapshots, into another database."""
        wanted = datetime.now(UTC)
        await asyncio.sleep(BETWEEN_S)
        async with second_database(self._place.url) as url:
            with watched() as peak:
                done = await self._snapshots.recover(wanted, PostgresArchive(url), fork=True, actor="bench")
                self._results.tell(
                    f"recovery to a time, {sum(done.rows.values())} rows, under load",
                    done.took_s,
                    "s",
                    RESTORE_S,
                )
                self._results.tell("  memory above the start", peak(), "MB", MEMORY_MB)
            self._results.tell("  before the time asked for", done.gap_s, "s", 2.0)
            recorded = await self._snapshots.get(done.snapshot)
            then = await standings(self._place.url, recorded.cut)
            now = await standings(url, recorded.saved_cut)
        self._results.promise("  states whose jobs are others than at that time", differing(then, now))

    async def _last_increment(self, base: Manifest) -> tuple[Manifest, Standings]:
        last = await self._increment(base)
        then = await standings(self._place.url, last.cut)
        for state, (jobs, _) in sorted(then.items()):
            self._results.tell(f"  {state} in it", jobs, "jobs")
        return last, then

    async def _bring_back(self, lost: float) -> float:
        """The newest snapshot, by the time of the loss; gives when it was there."""
        with watched() as peak:
            into = PostgresArchive(self._place.url)
            began = time.monotonic()
            done = await self._snapshots.recover(
                datetime.fromtimestamp(lost, UTC), into, fork=False, actor="bench"
            )
            self._results.tell(
                f"disaster restore of {sum(done.rows.values())} rows while producers try",
                time.monotonic() - began,
                "s",
                RESTORE_S,
            )
            self._results.tell("  memory above the start", peak(), "MB", MEMORY_MB)
        self._results.tell("  gap: from the last increment to the loss", done.gap_s, "s")
        print(f"    {done.why}")
        return time.time()

    async def _works_again(self, lost: float, restored: float) -> None:
        """How soon a job is stored and one is run."""
        until = restored + 2 * WORK_AGAIN_S
        while True:
            ledger = Ledger.read(self._place.ledger)
            stored = next((one.at for one in ledger.promises if one.at > lost + 1), None)
            ran = next((at for at, _ in runs_of(self._place.folder) if at > restored), None)
            if (stored and ran) or time.time() > until:
                break
            await asyncio.sleep(0.2)
        self._results.tell("  until a job was stored again", (stored or until) - restored, "s", WORK_AGAIN_S)
        self._results.tell("  until a job ran again", (ran or until) - restored, "s", WORK_AGAIN_S)
        refused = ledger.refused(lost, stored or until)
        self._results.tell("  calls refused meanwhile", sum(refused.values()), "")
        print(f"    {', '.join(f'{count} {name}' for name, count in refused.most_common())}")

    async def _nothing_is_lost(self, last: Manifest, then: Standings, lost: float) -> None:
        url, cut = self._place.url, last.saved_cut
        promised = [one for one in Ledger.read(self._place.ledger).promises if one.at < lost]
        gone = await lacking(url, [one.job_id for one in promised])
        safe = last.at.timestamp() - CLOCKS_S
        self._results.promise(
            "promised jobs of before the last increment that are lost",
            sum(one.job_id in gone and one.at < safe for one in promised),
        )
        self._results.tell("promised jobs of after it that are lost with the database", len(gone), "")
        kept = [one for one in Ledger.read(self._place.ledger).promises if one.at >= lost + 1]
        self._results.promise(
            "jobs promised after the restore that are lost",
            len(await lacking(url, [one.job_id for one in kept])),
        )
        now = await standings(url, cut)
        self._results.promise("states whose jobs are others than in the increment", differing(then, now))
        again = [job_id for at, job_id in runs_of(self._place.folder) if at > lost + 1]
        self._results.promise(
            "jobs completed in the increment that ran again",
            len(await done_before(url, [UUID(job_id) for job_id in again], cut)),
        )

    async def _promises_hold(self) -> None:
        database = await PooledDatabase.open(
            self._place.url, application_name="bench", most=2, command_timeout=None
        )
        began = time.monotonic()
        report = await Check(PostgresHistory(database)).run()
        await database.close()
        self._results.promise("promises S1 to S7 that are broken", len(report.broken))
        self._results.tell("  time of the check", time.monotonic() - began, "s")
        print(report.words())


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--live", type=int, default=250_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--redis", action="store_true", help="with Redis in front of PostgreSQL")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--database-url", default="")
    return parser.parse_args()


async def run(place: Place, options: argparse.Namespace, results: Results) -> None:
    began = time.monotonic()
    await make_world(place, options.jobs, options.live)
    print(
        f"  {options.jobs} jobs, {options.live} of them live and {HELD} held: made in {time.monotonic() - began:.0f} s"
    )
    await Loss(place, results).measure(options.rate)


def main() -> int:
    options = parsed()
    mode = "Redis in front of PostgreSQL" if options.redis else "PostgreSQL alone"
    print(
        f"loss of {options.jobs} jobs on {psutil.cpu_count()} cores, {mode}, load {psutil.getloadavg()[0]:.1f}"
    )
    results = Results()
    with tempfile.TemporaryDirectory(prefix="perdure-loss-") as name:
        settings = Settings(database_url=SecretStr(options.database_url), data_dir=Path(name))
        with servers(settings, print, redis=options.redis) as found:
            asyncio.run(run(Place(settings=found, folder=Path(name)), options, results))
    if options.json:
        about = {"jobs": options.jobs, "live": options.live, "rate": options.rate, "dispatch": mode}
        options.json.write_text(results.as_json(**about, cores=psutil.cpu_count(), load=psutil.getloadavg()))
    print(f"missed: {', '.join(results.missed)}" if results.missed else "all limits and promises kept")
    return 1 if results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
