"""`make bench-memory`: whether the memory of executions finds the same cause again, and how fast; exits with 1 when a limit is missed.

    python -m benchmarks.memory [--each 6] [--contexts 100000] [--queries 300] [--only recall|speed]

Failures of 52 causes are brought about by running code, each several times in different ways and with different values. Each is asked
for among all the others: recall@10 is the share of those of its cause that are among the ten nearest, of `each` - 1 that there are.
The speed is that of whole searches, words in and executions out, beside a PostgreSQL and Qdrant's engine, among many contexts.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import psutil
from pydantic import SecretStr

from benchmarks.memory.causes import CAUSES, failures
from perdure.bench.servers import servers
from perdure.domain.execution_memory import ExecutionContext, Wanted
from perdure.domain.failure import report_of
from perdure.ports.execution_memory import Embedder
from perdure.runtime.memory import memory_on
from perdure.runtime.settings import Settings
from perdure.runtime.vectors.finding import Found, served
from perdure.runtime.vectors.serving import serving
from perdure.runtime.vectors.shards import Shards
from perdure.services.execution_memory import vectors_of
from perdure.stores.embeddings.hashing import HashingEmbedder
from perdure.stores.embeddings.minilm import MiniLmEmbedder
from perdure.stores.postgres.connections import PooledDatabase
from perdure.stores.postgres.migrations import migrate
from perdure.stores.qdrant.executions import QdrantExecutions

RECALL_LEAST = 0.9
P95_MOST_MS = 50.0
NEAREST = 10
BATCH = 5_000
NOISE = 0.04
WARM_UP = 20
WORST = 5
KINDS = (
    "app.media.resize_image",
    "shop.orders.send_invoice",
    "etl.load_prices",
    "mail.deliver",
    "billing.charge",
    "reports.build_report",
)


def labelled(each: int) -> list[tuple[str, ExecutionContext]]:
    """Failures with their causes; kinds are drawn by lot, so that none tells a cause."""
    draw = random.Random(7)
    found = []
    for cause, error in failures(each):
        report = report_of(error)
        context = ExecutionContext(
            token=uuid.UUID(int=draw.getrandbits(128)),
            job_id=uuid.UUID(int=draw.getrandbits(128)),
            run=1,
            attempt=1,
            kind=draw.choice(KINDS),
            queue="default",
            outcome="failed",
            state="retryable",
            settled_at=1_900_000_000.0 + draw.random() * 86_400,
            embedder="",
            error_type=report.type,
            message=report.message[:1000],
            fingerprint=report.fingerprint,
        )
        found.append((cause, context))
    return found


async def recall(found: Found, embedder: Embedder, cases: Sequence[tuple[str, ExecutionContext]]) -> float:
    """The mean recall@10 over all failures, asked of the server."""
    vectors = QdrantExecutions(found.url, api_key=found.api_key)
    name = f"recall-{embedder.name}"
    await vectors.prepare(name)
    embedded = vectors_of(embedder, [context for _, context in cases], {})
    await vectors.keep(
        name, [(context, vector) for (_, context), vector in zip(cases, embedded, strict=True)]
    )
    causes = {context.job_id: cause for cause, context in cases}
    recalls: dict[str, list[float]] = {}
    for (cause, context), vector in zip(cases, embedded, strict=True):
        others = Wanted(other_than=context.job_id)
        nearest = await vectors.nearest(name, vector, others, limit=NEAREST)
        same = sum(causes[each.execution.job_id] == cause for each in nearest)
        there = sum(other == cause for other, _ in cases) - 1
        recalls.setdefault(cause, []).append(same / min(there, NEAREST))
    await vectors.close()
    means = sorted((statistics.mean(shares), cause) for cause, shares in recalls.items())
    print(f"  worst: {', '.join(f'{cause} {share:.2f}' for share, cause in means[:WORST])}")
    return statistics.mean(share for shares in recalls.values() for share in shares)


def fill(
    folder: Path, name: str, embedder: Embedder, cases: Sequence[tuple[str, ExecutionContext]], many: int
) -> None:
    """A collection of many contexts: the failures with a little noise, each another job's, written by the engine itself."""
    shards = Shards(folder)
    shards.create(name, {"vectors": {"size": 384, "distance": "Cosine"}})
    for field in ("kind", "queue", "outcome", "worker", "fingerprint", "job_id"):
        shards.index(name, {"field_name": field, "field_schema": "keyword"})
    shards.index(name, {"field_name": "settled_at", "field_schema": "float"})
    base = np.array(vectors_of(embedder, [context for _, context in cases], {}), dtype=np.float32)
    draw = np.random.default_rng(5)
    for start in range(0, many, BATCH):
        count = min(BATCH, many - start)
        chosen = draw.integers(0, len(base), count)
        noisy = base[chosen] + draw.normal(0, NOISE, (count, base.shape[1])).astype(np.float32)
        points = []
        for at, vector in zip(chosen, noisy, strict=True):
            other = replace(cases[at][1], job_id=uuid.uuid4())
            payload = msgspec.to_builtins(other)
            del payload["token"], payload["resolved"]
            points.append({"id": str(uuid.uuid4()), "vector": vector.tolist(), "payload": payload})
        shards.upsert(name, {"points": points})
    shards.close()


async def speed(
    settings: Settings, queries: int, cases: Sequence[tuple[str, ExecutionContext]]
) -> dict[str, list[float]]:
    """Milliseconds of whole searches, without and with filters."""
    url = settings.database_url.get_secret_value()
    database = await PooledDatabase.open(url, application_name="bench memory", most=2)
    vectors = QdrantExecutions(
        settings.qdrant_url.get_secret_value(), api_key=settings.qdrant_api_key.get_secret_value()
    )
    memory = memory_on(settings, database, vectors)
    draw = random.Random(11)
    taken: dict[str, list[float]] = {}
    for label, wanted in (
        ("all", Wanted()),
        ("of a kind", Wanted(kind=KINDS[0])),
        ("failed, of a day", Wanted(failed=True)),
    ):
        times = []
        for number in range(queries + WARM_UP):
            context = draw.choice(cases)[1]
            began = time.perf_counter()
            found = await memory.search(f"{context.error_type}: {context.message}", wanted, limit=NEAREST)
            if number >= WARM_UP:
                times.append((time.perf_counter() - began) * 1000)
            assert len(found) == NEAREST
        taken[label] = times
    await vectors.close()
    await database.close()
    return taken


async def collection_of(settings: Settings) -> str:
    """The name under which the memory of this database looks for its contexts."""
    url = settings.database_url.get_secret_value()
    await migrate(url)
    database = await PooledDatabase.open(url, application_name="bench memory", most=2)
    vectors = QdrantExecutions("http://127.0.0.1:9")
    status = await memory_on(settings, database, vectors).status()
    await vectors.close()
    await database.close()
    return status.collection


def measure_recall(folder: Path, each: int) -> list[str]:
    cases = labelled(each)
    print(f"recall@{NEAREST}: {len(cases)} failures of {len(CAUSES)} causes, {each} of each")
    missed = []
    with serving(folder):
        found = served(folder)
        assert found is not None
        for embedder, least in ((MiniLmEmbedder(), RECALL_LEAST), (HashingEmbedder(), None)):
            share = asyncio.run(recall(found, embedder, cases))
            print(f"  {embedder.name}: {share:.3f}{f' (at least {least})' if least else ''}")
            if least is not None and share < least:
                missed.append(f"recall@{NEAREST} of {embedder.name}")
    return missed


def measure_speed(folder: Path, settings: Settings, many: int, queries: int) -> list[str]:
    cases = labelled(4)
    missed = []
    for embedder in ("minilm", "hashing"):
        chosen = settings.model_copy(update={"memory_embedder": embedder})
        name = asyncio.run(collection_of(chosen))
        made = MiniLmEmbedder() if embedder == "minilm" else HashingEmbedder()
        began = time.perf_counter()
        fill(folder / "qdrant", name, made, cases, many)
        print(
            f"search among {many} contexts, {made.name} (filled in {time.perf_counter() - began:.0f} s), load {psutil.getloadavg()[0]:.1f}"
        )
        with serving(folder):
            found = served(folder)
            assert found is not None
            at = {"qdrant_url": SecretStr(found.url), "qdrant_api_key": SecretStr(found.api_key)}
            taken = asyncio.run(speed(chosen.model_copy(update=at), queries, cases))
        for label, times in taken.items():
            times.sort()
            p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
            print(f"  {label}: p50 {p50:.1f} ms, p95 {p95:.1f} ms (at most {P95_MOST_MS:.0f})")
            if p95 > P95_MOST_MS:
                missed.append(f"p95 of {made.name}, {label}")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-memory", description=__doc__)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--contexts", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--only", choices=("recall", "speed"))
    parser.add_argument("--database-url", default="")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # code that is wrong on purpose warns, too
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="perdure-memory-") as name:
        folder = Path(name)
        if options.only != "speed":
            missed += measure_recall(folder / "recall", options.each)
        if options.only != "recall":
            settings = Settings(database_url=SecretStr(options.database_url), data_dir=folder / "servers")
            with servers(settings, print, redis=False) as found:
                missed += measure_speed(folder / "speed", found, options.contexts, options.queries)
    print(f"missed: {', '.join(missed)}" if missed else "all limits kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
