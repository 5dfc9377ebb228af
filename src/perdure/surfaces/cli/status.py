"""`perdure status`: the system on one screen."""

from collections.abc import Sequence
from datetime import timedelta

from perdure.domain.alerts.standing import AlertState, Severity
from perdure.domain.alerts.views import AlertPage
from perdure.domain.job import JobState
from perdure.domain.serving import UNSERVED_COUNTED, Unserved
from perdure.domain.settlement import Outcome
from perdure.domain.views import StatusView
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, NOW, ONCE, Connection, Moment, Shown, Watch
from perdure.surfaces.cli.output import show_one
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.repeat import repeated
from perdure.surfaces.cli.session import opened

NAMED = 3
UNKNOWN = "?"
LONG_WAIT = timedelta(minutes=5)
LONG_TRANSACTION = timedelta(minutes=15)
EXITS = {"ok": Exit.DONE, "degraded": Exit.DEGRADED, "critical": Exit.CRITICAL}


async def status(
    *,
    moment: Moment = NOW,
    watch: Watch = ONCE,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> Exit:
    """Show the system on one screen; exit code 0 when all is well, 10 when degraded, 11 when critical."""
    state = "ok"
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            view = await stores.read.status(as_of=moment.at)
            state, reasons = judge(view, past=moment.at is not None)
            if moment.at is None and (alerts := firing(await stores.alerts.page())):
                state, reasons = "degraded" if state == "ok" else state, [*reasons, *alerts]
            if shown.format in {"json", "ndjson"}:
                show_one(
                    "perdure.status/1",
                    {"state": state, "reasons": reasons, **record_of(view)},
                    shown,
                    key="state",
                )
            else:
                show_one("perdure.status/1", _screen(view, state, reasons), shown, key="state")
    return EXITS[state]


def judge(view: StatusView, *, past: bool = False) -> tuple[str, list[str]]:
    """The state of the system in one word, and in sentences why it is not ok; who led in the past is not known."""
    critical, degraded = [], []
    if view.halted:
        critical.append(f"nothing may run: {view.halted}: see `perdure db epochs`, then `perdure db adopt`")
    waiting = _count(view, JobState.AVAILABLE)
    live = (view.workers_active or 0) + (view.workers_draining or 0)
    if view.workers_active == 0 and waiting:
        critical.append(
            f"no worker is active, and jobs wait for one (now {waiting}): run `perdure worker run APP`"
        )
    else:
        degraded += _unserved(view.unserved or ())
    if live and not past and (view.leader is None or not view.leader.leads):
        degraded.append(
            "no worker leads, so retries and delays wait: a new leader should come within seconds"
        )
    if view.workers_suspect:
        degraded.append(
            f"workers are silent for too long (now {view.workers_suspect}): see `perdure worker list`"
        )
    if view.workers_deaf:
        degraded.append(
            f"workers hear no notifications and find work by polling alone (now {view.workers_deaf}): see `perdure doctor`"
        )
    if view.oldest_available_s is not None and view.oldest_available_s > LONG_WAIT.total_seconds():
        degraded.append(
            f"the oldest job has waited for {view.oldest_available_s:.0f} s: see `perdure queue list`"
        )
    if view.oldest_transaction_s is not None and view.oldest_transaction_s > LONG_TRANSACTION.total_seconds():
        degraded.append(
            f"a transaction has been open for {view.oldest_transaction_s:.0f} s: see `perdure doctor`"
        )
    degraded += [f"not known: {note}" for note in view.notes]
    return ("critical" if critical else "degraded" if degraded else "ok"), critical + degraded


def firing(page: AlertPage) -> list[str]:
    """A sentence for each alert that asks somebody to act now or today and is not silenced."""
    return [
        f"alert {alert.rule} fires: {alert.summary.rstrip('.')}: run `{alert.command}`"
        for alert in page.alerts
        if alert.state == AlertState.FIRING
        and alert.severity != Severity.INFO
        and alert.silenced_until is None
    ]


def _unserved(parts: Sequence[Unserved]) -> list[str]:
    found = [
        f"jobs wait that no worker may take ({_at_least(part.jobs)} {part.kind}): {part.sentence.rstrip('.')}; "
        f"run `perdure worker run APP --queues {part.queue}` with the application that has it"
        for part in parts[:NAMED]
    ]
    return found + ([f"{len(parts) - NAMED} more such kinds of jobs wait"] if len(parts) > NAMED else [])


def _at_least(count: int) -> str:
    return f"{count:,}" if count < UNSERVED_COUNTED else f"{UNSERVED_COUNTED:,} or more"


def _screen(view: StatusView, state: str, reasons: list[str]) -> Record:
    screen: Record = {"state": state}
    screen |= {"why" if number == 0 else f"why {number + 1}": reason for number, reason in enumerate(reasons)}
    counts = [(each.state, _approximate(each.count, each.approximate)) for each in view.counts or ()]
    unknown = [(state, UNKNOWN) for state in JobState] if view.counts is None else []
    screen |= {f"jobs {state}": count for state, count in counts or unknown}
    screen |= {
        f"last minute {rate.outcome}": rate.count
        for rate in view.last_minute or ()
        if rate.outcome in Outcome
    }
    return screen | {
        "oldest waiting s": view.oldest_available_s,
        "workers active": view.workers_active,
        "workers draining": view.workers_draining,
        "workers suspect": view.workers_suspect,
        "workers deaf": view.workers_deaf,
        "leader": _leader(view),
        "dead letters": _approximate(view.dead_letters, view.dead_letters_approximate),
        "queues paused": list(view.queues_paused or ()),
        "oldest transaction s": view.oldest_transaction_s,
        "at": view.at,
    }


def _leader(view: StatusView) -> str:
    """Who leads; one whose time is over, as after a worker's end, is only the last that did."""
    if view.leader is None:
        return "none"
    return view.leader.worker if view.leader.leads else f"none, the last was {view.leader.worker}"


def _count(view: StatusView, state: JobState) -> int:
    return next((count.count for count in view.counts or () if count.state is state), 0)


def _approximate(count: int | None, approximate: bool) -> str:
    if count is None:
        return UNKNOWN
    return f"~{count}" if approximate else str(count)
