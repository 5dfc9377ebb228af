"""What a set-up should look like: rules from the facts of the servers to verdicts, each with what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

OLDEST_POSTGRESQL = 15
NEWEST_POSTGRESQL = 18
OLDEST_REDIS = (7, 0)
LONG_TRANSACTION_S = 900.0
VERY_LONG_TRANSACTION_S = 6 * 3600.0
CLOCK_OFF_S = 2.0
CLOCK_FAR_OFF_S = 3600.0
SLOW_COMMIT_MS = 20.0
MANY_DEAD_ROWS = 100_000
DEAD_SHARE = 2.0
SAFE_POLICY = "noeviction"


class Verdict(StrEnum):
    """How one fact is judged."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was looked at: what was found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """How one table stands."""

    name: str
    live_rows: int
    dead_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What PostgreSQL says of itself; the clock difference is positive when the server is ahead of this machine."""

    version: int
    version_text: str
    in_recovery: bool
    max_connections: int
    reserved_connections: int
    used_connections: int
    synchronous_commit: str
    fsync: str
    full_page_writes: str
    oldest_transaction_s: float
    oldest_transaction: str
    clock_difference_s: float
    commit_ms: float | None
    listener_heard: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFacts:
    """How the tables stand: `partitions` names those of today and tomorrow that are missing."""

    tables: Sequence[TableFacts]
    partitions_missing: Sequence[str]
    today: date
    workers_alive: int
    processes_alive: int
    workers_silent: int
    workers_deaf: int = 0
    halted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What Redis says of itself."""

    product: str
    version: str
    policy: str
    persistence: bool


def judge_server(facts: ServerFacts) -> list[Line]:
    """The lines about the server."""
    return [
        _version(facts),
        _role(facts),
        _durability(facts),
        _transaction(facts),
        _clock(facts),
        _commit(facts),
        _listener(facts),
    ]


def judge_connections(facts: ServerFacts, *, per_worker: int, workers: int) -> Line:
    """Whether the connections that workers need are there; `workers` includes one that is about to start."""
    available = facts.max_connections - facts.reserved_connections
    free = available - facts.used_connections
    needed = per_worker * max(workers, 1)
    found = (
        f"{needed} needed (workers: {max(workers, 1)}, each up to {per_worker}), {free} free of {available}"
    )
    if needed > available:
        step = "raise max_connections of the server, or lower processes or max_connections of the workers"
        return Line(check="connections", verdict=Verdict.BAD, found=found, next_step=step)
    if free < per_worker:
        step = "see who holds them in pg_stat_activity; raise max_connections of the server"
        return Line(check="connections", verdict=Verdict.WARN, found=found, next_step=step)
    return Line(check="connections", verdict=Verdict.OK, found=found)


def judge_schema(facts: SchemaFacts) -> list[Line]:
    """The lines about tables, partitions and workers."""
    return [_lineage(facts), _partitions(facts), _dead_rows(facts.tables), _workers(facts)]


def judge_redis(facts: RedisFacts) -> list[Line]:
    """The lines about Redis."""
    name = f"{facts.product} {facts.version}"
    lines = [
        Line(check="redis version", verdict=Verdict.OK, found=name)
        if _parts(facts.version) >= OLDEST_REDIS
        else Line(
            check="redis version",
            verdict=Verdict.BAD,
            found=name,
            next_step="use Redis 7 or newer, or Valkey 8",
        )
    ]
    if facts.policy == SAFE_POLICY:
        return [*lines, Line(check="redis policy", verdict=Verdict.OK, found=facts.policy)]
    return [
        *lines,
        Line(
            check="redis policy",
            verdict=Verdict.BAD,
            found=f"maxmemory-policy is {facts.policy}, which may drop queued work",
            next_step="CONFIG SET maxmemory-policy noeviction",
        ),
    ]


def judge_extras(missing: Mapping[str, Sequence[str]], wanted: Iterable[str]) -> Line:
    """Whether the extras that the settings want are installed; `missing` has the packages that each one lacks."""
    if not missing:
        return Line(
            check="extras", verdict=Verdict.OK, found="cannot be told: this is no installed distribution"
        )
    lacking = {extra: packages for extra, packages in sorted(missing.items()) if packages}
    here = ", ".join(sorted(missing.keys() - lacking.keys())) or "none"
    found = f"{here} installed"
    if lacking:
        told = ", ".join(f"{extra} (lacks {', '.join(packages)})" for extra, packages in lacking.items())
        found = f"{found}; not: {told}"
    needed = sorted(lacking.keys() & set(wanted))
    if needed:
        found = f"the settings need {' and '.join(needed)}; {found}"
    step = f"pip install 'perdure[{','.join(needed or ['all'])}]'" if lacking else ""
    return Line(check="extras", verdict=Verdict.BAD if needed else Verdict.OK, found=found, next_step=step)


def worst(lines: Iterable[Line]) -> Verdict:
    """The worst verdict of all."""
    verdicts = {line.verdict for line in lines}
    return next((v for v in (Verdict.BAD, Verdict.WARN) if v in verdicts), Verdict.OK)


def _version(facts: ServerFacts) -> Line:
    major = facts.version // 10_000
    if OLDEST_POSTGRESQL <= major <= NEWEST_POSTGRESQL:
        return Line(check="postgresql version", verdict=Verdict.OK, found=facts.version_text)
    if major > NEWEST_POSTGRESQL:
        step = f"Perdure is tested with {OLDEST_POSTGRESQL} to {NEWEST_POSTGRESQL}"
        return Line(
            check="postgresql version", verdict=Verdict.WARN, found=facts.version_text, next_step=step
        )
    step = f"use PostgreSQL {OLDEST_POSTGRESQL} to {NEWEST_POSTGRESQL}"
    return Line(check="postgresql version", verdict=Verdict.BAD, found=facts.version_text, next_step=step)


def _role(facts: ServerFacts) -> Line:
    if not facts.in_recovery:
        return Line(check="postgresql role", verdict=Verdict.OK, found="primary")
    step = "point database_url at the primary"
    return Line(
        check="postgresql role", verdict=Verdict.BAD, found="a replica, which takes no writes", next_step=step
    )


def _durability(facts: ServerFacts) -> Line:
    found = f"synchronous_commit {facts.synchronous_commit}, fsync {facts.fsync}, full_page_writes {facts.full_page_writes}"
    if facts.fsync != "on" or facts.full_page_writes != "on":
        step = "turn fsync and full_page_writes on: a power cut can destroy the database"
        return Line(check="durability", verdict=Verdict.BAD, found=found, next_step=step)
    if facts.synchronous_commit == "off":
        step = (
            "turn synchronous_commit on for this database or role: a crash can lose jobs that were enqueued"
        )
        return Line(check="durability", verdict=Verdict.BAD, found=found, next_step=step)
    return Line(check="durability", verdict=Verdict.OK, found=found)


def _transaction(facts: ServerFacts) -> Line:
    age = facts.oldest_transaction_s
    if age < LONG_TRANSACTION_S:
        return Line(check="oldest transaction", verdict=Verdict.OK, found=f"{age:.0f} s")
    verdict = Verdict.BAD if age >= VERY_LONG_TRANSACTION_S else Verdict.WARN
    step = "end it: while it is open, dead rows stay and tables grow"
    found = f"{age:.0f} s ({facts.oldest_transaction})"
    return Line(check="oldest transaction", verdict=verdict, found=found, next_step=step)


def _clock(facts: ServerFacts) -> Line:
    off = facts.clock_difference_s
    found = f"the server is {abs(off):.3f} s {'ahead of' if off >= 0 else 'behind'} this machine"
    if abs(off) < CLOCK_OFF_S:
        return Line(check="clock", verdict=Verdict.OK, found=found)
    verdict = Verdict.BAD if abs(off) >= CLOCK_FAR_OFF_S else Verdict.WARN
    step = "let both follow a time server; job ids carry this machine's time, and a day off is refused"
    return Line(check="clock", verdict=verdict, found=found, next_step=step)


def _commit(facts: ServerFacts) -> Line:
    if facts.commit_ms is None:
        return Line(check="commit", verdict=Verdict.WARN, found="could not be measured")
    found = f"{facts.commit_ms:.1f} ms for a durable commit, round trip included"
    if facts.commit_ms < SLOW_COMMIT_MS:
        return Line(check="commit", verdict=Verdict.OK, found=found)
    step = "enqueue many jobs in one call, and put the server's log on a faster disk"
    return Line(check="commit", verdict=Verdict.WARN, found=found, next_step=step)


def _listener(facts: ServerFacts) -> Line:
    if facts.listener_heard:
        return Line(check="notifications", verdict=Verdict.OK, found="heard")
    step = "connect workers to PostgreSQL itself, not through a pooler in transaction mode; polling works meanwhile"
    return Line(
        check="notifications", verdict=Verdict.WARN, found="not heard within a second", next_step=step
    )


def _lineage(facts: SchemaFacts) -> Line:
    if facts.halted is None:
        return Line(check="lineage", verdict=Verdict.OK, found="nobody remembers more than it has")
    step = "see `perdure db epochs`, then `perdure db adopt`"
    return Line(
        check="lineage", verdict=Verdict.BAD, found=f"nothing may run: {facts.halted}", next_step=step
    )


def _partitions(facts: SchemaFacts) -> Line:
    if not facts.partitions_missing:
        return Line(check="partitions", verdict=Verdict.OK, found=f"made for {facts.today} and the day after")
    found = f"missing: {', '.join(facts.partitions_missing)}"
    step = "run a worker, whose leader makes them; rows go to the default partitions until then"
    return Line(check="partitions", verdict=Verdict.WARN, found=found, next_step=step)


def _dead_rows(tables: Sequence[TableFacts]) -> Line:
    swollen = [t for t in tables if t.dead_rows >= MANY_DEAD_ROWS and t.dead_rows >= DEAD_SHARE * t.live_rows]
    if not swollen:
        return Line(
            check="dead rows", verdict=Verdict.OK, found=f"{sum(t.dead_rows for t in tables)} in hot tables"
        )
    found = ", ".join(f"{t.name}: {t.dead_rows} dead, {t.live_rows} live" for t in swollen)
    step = "look for a long transaction that keeps them, then VACUUM these tables"
    return Line(check="dead rows", verdict=Verdict.WARN, found=found, next_step=step)


def _workers(facts: SchemaFacts) -> Line:
    found = f"{facts.workers_alive} alive with {facts.processes_alive} processes"
    if not facts.workers_alive:
        return Line(
            check="workers", verdict=Verdict.WARN, found=found, next_step="run `perdure worker run APP`"
        )
    if facts.workers_silent:
        step = "see `perdure worker list`; their jobs are taken over once they are declared dead"
        found = f"{found}, {facts.workers_silent} silent"
        return Line(check="workers", verdict=Verdict.WARN, found=found, next_step=step)
    if facts.workers_deaf:
        step = "connect them to PostgreSQL itself, not through a pooler in transaction mode; until then they poll"
        found = f"{found}, {facts.workers_deaf} with processes that hear no notifications"
        return Line(check="workers", verdict=Verdict.WARN, found=found, next_step=step)
    return Line(check="workers", verdict=Verdict.OK, found=found)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
