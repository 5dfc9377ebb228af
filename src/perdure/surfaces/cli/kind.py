"""`perdure kind advise`: what the history of a kind says of its durations, failures, time-out, retries and workers."""

from typing import TYPE_CHECKING

from cyclopts import App

from perdure.domain.durations import parse_duration
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, Connection, Shown
from perdure.surfaces.cli.output import show_one
from perdure.surfaces.cli.records import Record, record_of
from perdure.surfaces.cli.session import opened, settings_of

if TYPE_CHECKING:
    from perdure.domain.advice import Advice, Share
    from perdure.state_ports import Following

app = App(name="kind", help="Learn from how the jobs of a kind went.")


@app.command
async def advise(
    kind: str, *, within: str = "7d", connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """Tell what to expect of a kind and how to set it: duration, failures, time-out, retry delay, workers; each with its evidence.

    At most 10,000 attempts are read, the newest. Nothing is changed, and nothing is advised from too few attempts. Of a kind that
    follows advice by itself it is told what it goes by, since when and why.

    Parameters
    ----------
    kind
        Such as `app.resize`.
    within
        How far back attempts count, such as `7d`.
    """
    from perdure.runtime.advising import advising
    from perdure.stores.postgres.following import PostgresFollowing

    span = parse_duration(within, "within")
    async with opened(connection) as stores:
        settings = settings_of(connection)
        found = await advising(stores.database, settings).kind(kind, within=span)
        following = await PostgresFollowing(stores.database, schema=settings.schema).of_kind(kind)
    if shown.format in {"auto", "table"}:
        told = {**_in_words(found), "follows": "" if following is None else _follows(following)}
        show_one("perdure.advice/1", told, shown, key="kind")
        return
    record = record_of(found)
    if found.failure is not None:
        record["failure"] = {**record_of(found.failure), "bounds": list(found.failure.bounds)}
    record["follows"] = None if following is None else record_of(following)
    show_one("perdure.advice/1", {"kind": record.pop("kind"), **record}, shown, key="kind")


def _in_words(advice: "Advice") -> Record:
    period = f"{advice.since:%Y-%m-%d %H:%M} to {advice.until:%Y-%m-%d %H:%M}" if advice.since else "none"
    return {
        "kind": advice.kind,
        "evidence": f"{advice.attempts} ended attempts, {period}",
        "duration": _duration(advice),
        "prediction": _prediction(advice),
        "failure": _failure(advice),
        "causes": [f"{_of(cause.share)} {cause.error}: {cause.message}" for cause in advice.causes],
        "timeout": _timeout(advice),
        "retry": _retry(advice),
        "workers": _workers(advice),
        "too few": list(advice.too_few),
    }


def _of(share: "Share") -> str:
    return f"{share.value:.0%} ({share.part} of {share.of})"


def _s(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def _duration(advice: "Advice") -> str:
    told = advice.duration
    return (
        ""
        if told is None
        else f"median {_s(told.median_s)}, p90 {_s(told.p90_s)}, p99 {_s(told.p99_s)}, of {told.successes} successes"
    )


def _prediction(advice: "Advice") -> str:
    told = advice.duration and advice.duration.prediction
    if not told:
        return ""
    error = f"off by {_s(told.error_s)} on average over the last {told.tested}"
    if not told.argument:
        return f"{error}; by the median, no argument tells more"
    ranges = ", ".join(f"from {start:g}: {_s(took)}" for start, took in told.ranges)
    return f"{error}, by the argument {told.argument} ({ranges}); the plain median is off by {_s(told.plain_error_s)}"


def _failure(advice: "Advice") -> str:
    if advice.failure is None:
        return ""
    low, high = advice.failure.bounds
    return f"{_of(advice.failure)}, in 95 of 100 cases between {low:.1%} and {high:.1%}"


def _timeout(advice: "Advice") -> str:
    told = advice.timeout
    if told is None:
        return ""
    now = "none now" if told.now_s is None else f"{_s(told.now_s)} now"
    return f"{_s(told.timeout_s)} ({now}); it would have ended {_of(told.ended)} of the successes"


def _retry(advice: "Advice") -> str:
    told = advice.retry
    if told is None:
        return ""
    others = "".join(f"; from {_s(delay)}: {_of(share)}" for delay, share in told.others)
    return f"after at least {_s(told.delay_s)}: {_of(told.succeeded)} of the retries succeeded{others}"


def _workers(advice: "Advice") -> str:
    told = advice.labels
    if told is None:
        return ""
    labels = ", ".join(told.labels) or "without labels"
    return (
        f"{labels}: {_of(told.failed)} failed, median {_s(told.median_s)};"
        f" elsewhere {_of(told.others)}, {_s(told.others_median_s)}"
    )


def _follows(following: "Following") -> str:
    wish, now = following.wish, following.now
    told = []
    if wish.timeout_least_s is not None:
        most = "" if wish.timeout_most_s is None else f" to {_s(wish.timeout_most_s)}"
        value = "its own" if now.timeout_s is None else _s(now.timeout_s)
        told.append(f"time-out: {value}, within {_s(wish.timeout_least_s)}{most}")
    if wish.retry_most_s is not None:
        value = "its own" if now.retry_s is None else f"at least {_s(now.retry_s)}"
        told.append(f"retry delay: {value}, up to {_s(wish.retry_most_s)}")
    if following.changed_at is not None:
        told.append(f"since {following.changed_at:%Y-%m-%d %H:%M}, as {now.why}")
    return "; ".join(told)
