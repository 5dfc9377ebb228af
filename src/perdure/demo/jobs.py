"""The jobs of the demonstration. Importing this file is all that its worker knows of it."""

import asyncio
import hashlib
import zlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from perdure import Backoff, Context, Perdure, job
from perdure.demo import report, source
from perdure.demo.packages import PackageFacts, Totals, package_facts
from perdure.demo.source import FileFacts
from perdure.domain.job import JobState
from perdure.runtime.app import Prepared

T = TypeVar("T")

QUEUE = "demo"
QUICKLY = Backoff(base="250ms", cap="2s")
READERS = 3
KEY_MAX = 200
LOOKS = 4
"""Results that one job fetches at a time; each takes a connection."""

app = Perdure()
demo_job = job(queue=QUEUE, priority=2, timeout="5m", retry=QUICKLY)


class StorageBusy(OSError):
    """The storage does not answer now; it will soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a scan has set up: the id is that of the report that comes of it."""

    files: int
    packages: int
    report: UUID
    sample: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where the report is, and its sums."""

    markdown: str
    json: str
    totals: Totals


@demo_job(name="scan", retries=5, unique_key=lambda folder, out: f"scan into {out}"[:KEY_MAX])
async def scan(context: Context, folder: str, out: str) -> Plan:
    """Find the files, and enqueue the analysis of each, a summary of each package, and the report.

    All of it is stored in the transaction that completes this job, so that a crash can neither lose nor double it.
    """
    paths = await asyncio.to_thread(lambda: list(source.python_files(Path(folder))))
    jobs, plan = _pipeline(folder, out, paths)
    connection: Any = await asyncpg.connect(app.settings.database_url.get_secret_value())
    try:
        async with connection.transaction():
            await app.enqueue_many(jobs, conn=connection)
            result = {
                "files": plan.files,
                "packages": plan.packages,
                "report": str(plan.report),
                "sample": plan.sample,
            }
            await context.complete(connection, result)
    finally:
        await connection.close()
    return plan


@demo_job(name="analyse", mode="process", retries=3)
def analyse(folder: str, path: str, strict: bool = False) -> FileFacts:
    """Read one file; what is no Python is said so, or (strict) fails."""
    content = Path(folder, path).read_bytes()
    try:
        return source.facts_of(content, path)
    except SyntaxError as error:
        if strict:
            raise
        return FileFacts(
            path=path, size=len(content), lines=source.line_count(content), fault=error.msg or "no Python"
        )


@demo_job(
    name="digest",
    mode="thread",
    retries=5,
    priority=3,
    concurrency_key="storage",
    concurrency_limit=READERS,
)
def digest(context: Context, folder: str, package: str, busy: int) -> str:
    """The SHA-256 of a package's files, read over a storage that has room for few and refuses `busy` attempts."""
    if context.attempt <= busy:
        raise StorageBusy(f"the storage of package {package!r} is busy")
    total = hashlib.sha256()
    for path in sorted(Path(folder, *package.split(".")).glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


@demo_job(name="summarise", priority=3)
async def summarise(package: str, files: Sequence[UUID], digest_id: UUID) -> PackageFacts:
    """Add up the results of the parents."""
    facts = await _few_at_a_time([app.handle(analyse, file).result("1m") for file in files])
    return package_facts(package, await app.handle(digest, digest_id).result("1m"), facts)


@demo_job(name="write_report", priority=3)
async def write_report(folder: str, out: str, summaries: Sequence[UUID]) -> Written:
    """Write the report from all summaries."""
    packages = await _few_at_a_time([app.handle(summarise, summary).result("1m") for summary in summaries])
    whole = report.report_of(folder, packages)
    markdown, json = Path(out, "report.md"), Path(out, "report.json")
    await asyncio.to_thread(report.write, whole, markdown, json)
    return Written(markdown=str(markdown), json=str(json), totals=whole.totals)


@demo_job(name="take_stock", priority=3)
async def take_stock() -> int:
    """Count what has completed by now; enqueued with a delay."""
    counts = await (await app.stores()).read.counts()
    return sum(one.count for one in counts if one.state is JobState.COMPLETED)


def busy_times(package: str) -> int:
    """How often the storage of a package refuses: the same in every run, none for most."""
    return (0, 1, 0, 2, 0)[zlib.crc32(package.encode()) % 5]


def package_graph(
    folder: str, package: str, files: Sequence[str], *, busy: int
) -> tuple[list[Prepared[Any]], Prepared[PackageFacts]]:
    """The jobs of one package, its summary last, which depends on all others; the storage refuses `busy` attempts."""
    analyses = [app.prepare(analyse, folder, path) for path in files]
    digested = app.prepare(digest, folder, package, busy)
    ids = [file.id for file in analyses]
    summary = app.using(depends_on=[*ids, digested.id]).prepare(summarise, package, ids, digested.id)
    return [*analyses, digested, summary], summary


def _pipeline(folder: str, out: str, paths: Sequence[str]) -> tuple[list[Prepared[Any]], Plan]:
    packages = source.by_package(paths)
    jobs: list[Prepared[Any]] = []
    summaries: list[UUID] = []
    for place, (package, files) in enumerate(packages.items()):
        busy = max(busy_times(package), int(place == 0))
        graph, summary = package_graph(folder, package, files, busy=busy)
        jobs += graph
        summaries.append(summary.id)
    last = app.using(depends_on=summaries).prepare(write_report, folder, out, summaries)
    plan = Plan(files=len(paths), packages=len(packages), report=last.id, sample=paths[-1] if paths else "")
    return [*jobs, last], plan


async def _few_at_a_time(lookups: Sequence[Awaitable[T]]) -> list[T]:
    gate = asyncio.Semaphore(LOOKS)

    async def one(lookup: Awaitable[T]) -> T:
        async with gate:
            return await lookup

    return await asyncio.gather(*(one(lookup) for lookup in lookups))
