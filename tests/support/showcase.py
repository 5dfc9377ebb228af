"""A database with something of everything to be seen: for pages under test, and for the pictures in the documentation."""

import asyncio
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from perdure.domain.job import Dependency, JobId, OnParentFailure
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Ending, ErrorReport, Failed, settle
from perdure.domain.worker import NewWorker, WorkerId
from perdure.ports import Claimer, Scope
from perdure.stores.postgres.dispatch import PostgresDispatch
from tests.support.new_jobs import job_of
from tests.support.system import System, new_id, system_on

WORKERS = (
    ("media-1", ("media",), 24, ("shop.resize", "shop.transcode")),
    ("media-2", ("media",), 24, ("shop.resize", "shop.transcode")),
    ("mail-1", ("mail",), 50, ("shop.send_receipt", "shop.send_newsletter")),
    (
        "general-1",
        ("default", "reports"),
        16,
        ("shop.sync_stock", "shop.report", "shop.index", "shop.extract"),
    ),
    (
        "general-2",
        ("default", "reports"),
        16,
        ("shop.sync_stock", "shop.report", "shop.index", "shop.extract"),
    ),
)
TRACE = """Traceback (most recent call last):
  File "shop/mail.py", line 48, in send_receipt
    async with smtp.connect(host, timeout=10) as session:
  File "shop/smtp.py", line 112, in connect
    raise SmtpTimeout(f"{host} did not answer within {timeout} s")
shop.smtp.SmtpTimeout: mail.internal did not answer within 10 s
"""
HOSTILE = (
    "<script>alert(1)</script>",
    "\u202egnp.exe\u202c is reversed",
    "a\"b'c & <b>bold</b> {{ 7*7 }} \\x00",
    "x" * 5_000,
    "\u200f\u05e2\u05d1\u05e8\u05d9\u05ea\u200f mixed \u05e2\u05dd English",
)


async def fill(url: str, *, hostile: bool = False, minutes: int = 60) -> dict[str, UUID]:
    """Fill a migrated database; gives the ids of some jobs by what they show."""
    async with system_on(url) as system:
        dice = random.Random(7)
        workers = await _workers(system)
        await _past(system, dice, workers, minutes)
        shown = await _present(system, workers)
        shown |= await _flow(system, workers)
        await _letters(system, workers)
        if hostile:
            shown |= await _hostile(system, workers)
        await system.act.pause("reports", actor="ada", reason="the warehouse is being rebuilt")
        return shown


async def keep_alive(url: str) -> None:
    """Let the workers beat and lead, and some of them work, until this is cancelled."""
    async with system_on(url) as system:
        while True:
            for worker in await system.workers.list(alive_only=True):
                await system.workers.beat(worker.id, kinds=worker.kinds, processes=worker.processes)
            await system.sql.execute(
                "INSERT INTO perdure.leaders (name, holder, term, expires_at)"
                " SELECT 'duties', w.id, 1, now() + interval '20 s' FROM perdure.workers w WHERE w.name = 'general-1'"
                " ON CONFLICT (name) DO UPDATE SET expires_at = excluded.expires_at"
            )
            await asyncio.sleep(1)


async def _workers(system: System) -> dict[str, WorkerId]:
    found = {}
    for name, queues, capacity, kinds in WORKERS:
        worker = NewWorker(
            id=WorkerId(uuid4()),
            name=name,
            host=f"{name}.shop.internal",
            pid=4211,
            queues=queues,
            kinds=kinds,
            capacity=capacity,
            processes=2,
            version="0.1.0",
        )
        await system.workers.register(worker)
        found[name] = worker.id
    gone = NewWorker(
        id=WorkerId(uuid4()),
        name="mail-0",
        host="mail-0.shop.internal",
        pid=4100,
        queues=("mail",),
        kinds=("shop.send_receipt",),
        capacity=50,
        processes=2,
        version="0.1.0",
    )
    await system.workers.register(gone)
    await system.workers.stop(gone.id, cause="drained: told to stop by SIGTERM")
    return found


async def _past(system: System, dice: random.Random, workers: dict[str, WorkerId], minutes: int) -> None:
    """An hour of work that has ended: a wave of load, and a bad quarter of an hour."""
    now = datetime.now(UTC)
    lanes = await _lanes(system)
    for back in range(minutes, 0, -1):
        at = now - timedelta(minutes=back)
        load = int(60 + 35 * (1 + dice.random() * 0.25) * (1 + 0.8 * _wave(back)))
        failing = 0.22 if 22 < back < 34 else 0.015
        rows, bodies = [], []
        for number in range(load):
            kind, queue = dice.choice(sorted(lanes))
            moment = at + timedelta(seconds=60 * number / load)
            job_id = _id_at(moment, dice)
            wait, run = dice.expovariate(2.0), dice.expovariate(0.8)
            settled = min(moment + timedelta(seconds=wait + run), now)
            failed = dice.random() < failing
            bodies.append((job_id, lanes[kind, queue], moment, json.dumps({"id": number})))
            rows.append(
                (
                    job_id,
                    lanes[kind, queue],
                    moment,
                    settled - timedelta(seconds=run),
                    settled,
                    "failed" if failed else "completed",
                    "retryable" if failed else "completed",
                    list(workers.values())[number % len(workers)],
                )
            )
            if failed:
                again = min(settled + timedelta(seconds=20), now)
                rows.append(
                    (
                        job_id,
                        lanes[kind, queue],
                        settled,
                        again,
                        again,
                        "completed",
                        "completed",
                        next(iter(workers.values())),
                    )
                )
        await system.sql.executemany(
            "INSERT INTO perdure.jobs (id, lane, priority, max_attempts, enqueued_at, args) VALUES ($1, $2, 3, 4, $3, $4::jsonb)",
            bodies,
        )
        await system.sql.executemany(
            "INSERT INTO perdure.job_executions (job_id, token, worker_id, lane, run, attempt, crashes, interruptions, available_at,"
            " claimed_at, started_at, finished_at, settled_at, outcome, state, process)"
            " VALUES ($1, gen_random_uuid(), $8, $2, 1, 1, 0, 0, $3, $4, $4, $5, $5, $6::perdure.outcome, $7::perdure.job_state, 0)",
            rows,
        )


def _wave(back: int) -> float:
    from math import sin

    return sin(back / 9.0)


def _id_at(moment: datetime, dice: random.Random) -> UUID:
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(
        int=(milliseconds << 80) | (7 << 76) | (dice.getrandbits(12) << 64) | (2 << 62) | dice.getrandbits(62)
    )


async def _lanes(system: System) -> dict[tuple[str, str], int]:
    wanted = (
        ("shop.resize", "media"),
        ("shop.transcode", "media"),
        ("shop.send_receipt", "mail"),
        ("shop.send_newsletter", "mail"),
        ("shop.sync_stock", "default"),
        ("shop.report", "reports"),
        ("shop.index", "default"),
        ("shop.extract", "default"),
    )
    for kind, queue in wanted:
        job_id = await system.add(kind, queue=queue)
        await system.act.cancel(job_id, actor="deploy", reason="a trial run")
    rows = await system.sql.fetch("SELECT lane, kind, queue FROM perdure.lanes")
    return {(row["kind"], row["queue"]): row["lane"] for row in rows}


async def _claim(system: System, worker: WorkerId, kind: str, queue: str, limit: int = 1) -> list[Lease]:
    dispatch = PostgresDispatch(system.database)
    claimer = Claimer(worker_id=worker, process=0)
    scope = Scope(queues=(queue,), kinds=(kind,))
    return list(
        await dispatch.claim(claimer, scope, limit=limit) or await dispatch.claim(claimer, scope, limit=limit)
    )


async def _end(system: System, leases: Sequence[Lease], ending: Ending) -> None:
    for lease in leases:
        await system.jobs.settle([settle(lease, ending)])


def _failure(
    type: str, message: str, fingerprint: str, *, trace: str = "", give_up: bool = False, retry_in: int = 90
) -> Failed:
    report = ErrorReport(type=type, message=message, traceback=trace, fingerprint=fingerprint)
    return Failed(error=report, retry_in=timedelta(seconds=retry_in), give_up=give_up)


async def _present(system: System, workers: dict[str, WorkerId]) -> dict[str, UUID]:
    for name, kind, queue, count in (
        ("media-1", "shop.resize", "media", 17),
        ("media-2", "shop.transcode", "media", 9),
        ("mail-1", "shop.send_receipt", "mail", 31),
        ("general-1", "shop.sync_stock", "default", 6),
        ("general-2", "shop.index", "default", 11),
    ):
        await system.jobs.enqueue(
            [
                job_of(
                    id=new_id(), kind=kind, queue=queue, args=json.dumps({"order": 5200 + n, "width": 640})
                )
                for n in range(count)
            ]
        )
        await _claim(system, workers[name], kind, queue, count)
    await system.jobs.enqueue(
        [
            job_of(
                id=new_id(),
                kind="shop.transcode",
                queue="media",
                args=json.dumps({"video": f"clip-{n:04}.mov", "codec": "av1"}),
            )
            for n in range(143)
        ]
    )
    await system.jobs.enqueue(
        [
            job_of(id=new_id(), kind="shop.report", queue="reports", args='{"month": "2026-10"}')
            for _ in range(12)
        ]
    )
    scheduled = [
        job_of(
            id=new_id(),
            kind="shop.send_newsletter",
            queue="mail",
            args='{"list": "winter"}',
            delay=timedelta(hours=hours),
        )
        for hours in (1, 2, 5, 9)
    ]
    await system.jobs.enqueue(scheduled)
    retried = JobId(new_id())
    await system.jobs.enqueue(
        [
            job_of(
                id=retried,
                kind="shop.send_receipt",
                queue="mail",
                priority=5,
                args='{"order": 5217, "to": "ada@example.org", "smtp_password": "hunter2hunter2"}',
                metadata={"release": "2026.11.3"},
            )
        ]
    )
    leases = await _claim(system, workers["mail-1"], "shop.send_receipt", "mail", 50)
    await _end(
        system,
        leases,
        _failure("SmtpTimeout", "mail.internal did not answer within 10 s", "c0ffee12", trace=TRACE),
    )
    return {"retryable": retried, "scheduled": scheduled[0].id}


async def _flow(system: System, workers: dict[str, WorkerId]) -> dict[str, UUID]:
    root, *parts = (JobId(new_id()) for _ in range(5))
    joined, report, notify = (JobId(new_id()) for _ in range(3))

    def after(*parents: JobId, on_failure: OnParentFailure = OnParentFailure.HOLD) -> tuple[Dependency, ...]:
        return tuple(Dependency(parent_id=parent, on_failure=on_failure) for parent in parents)

    await system.jobs.enqueue(
        [
            job_of(id=root, kind="shop.extract", queue="default", args='{"day": "2026-11-24"}'),
            *(
                job_of(
                    id=part,
                    kind="shop.sync_stock",
                    queue="default",
                    args=json.dumps({"shard": n}),
                    depends_on=after(root),
                )
                for n, part in enumerate(parts)
            ),
            job_of(id=joined, kind="shop.index", queue="default", depends_on=after(*parts)),
            job_of(id=report, kind="shop.report", queue="reports", depends_on=after(joined, root)),
            job_of(id=notify, kind="shop.send_newsletter", queue="mail", depends_on=after(report)),
        ]
    )
    await _end(
        system,
        await _claim(system, workers["general-1"], "shop.extract", "default"),
        Completed(result='{"rows": 18231}'),
    )
    leases = await _claim(system, workers["general-1"], "shop.sync_stock", "default", 4)
    await _end(system, leases[:2], Completed(result="null"))
    await _end(
        system, leases[2:3], _failure("StockMismatch", "shard 2 differs by 3 units", "5742c4aa", retry_in=40)
    )
    return {"flow": root, "running": parts[3], "pending": joined, "completed": root}


async def _letters(system: System, workers: dict[str, WorkerId]) -> None:
    causes = (
        (
            14,
            "shop.transcode",
            "media",
            "media-2",
            "CodecUnknown",
            "no decoder for codec 'prores-raw'",
            "9be01d2f",
        ),
        (
            6,
            "shop.send_newsletter",
            "mail",
            "mail-1",
            "TemplateError",
            "line 12: 'discount' is not defined",
            "17aa93c0",
        ),
        (
            2,
            "shop.index",
            "default",
            "general-1",
            "IntegrityError",
            'duplicate key value violates unique constraint "sku"',
            "e0f4417b",
        ),
    )
    for count, kind, queue, worker, error, message, fingerprint in causes:
        await system.jobs.enqueue(
            [
                job_of(id=new_id(), kind=kind, queue=queue, priority=5, args=json.dumps({"item": n}))
                for n in range(count)
            ]
        )
        leases = await _claim(system, workers[worker], kind, queue, count)
        await _end(
            system,
            leases,
            _failure(error, message, fingerprint, give_up=True, trace=TRACE.replace("SmtpTimeout", error)),
        )


async def _hostile(system: System, workers: dict[str, WorkerId]) -> dict[str, UUID]:
    ids = []
    for number, text in enumerate(HOSTILE):
        kind, queue = text.replace("\x00", "")[:180], text[:150]
        job = job_of(
            id=JobId(new_id()),
            kind=kind,
            queue=queue,
            args=json.dumps({text[:200]: text, "token": "top-secret-value"}),
            max_attempts=1,
        )
        await system.jobs.enqueue([job])
        leases = await _claim(system, workers["mail-1"], kind, queue)
        await _end(system, leases, _failure(text[:100], text, f"fp{number}", trace=text * 3, give_up=True))
        ids.append(job.id)
    big = job_of(
        id=JobId(new_id()), kind="shop.big", queue="default", args=json.dumps({"blob": "ä" * 500_000})
    )
    await system.jobs.enqueue([big])
    return {"hostile": ids[0], "reversed": ids[1], "big": big.id}
