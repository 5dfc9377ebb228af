"""Time-outs and retry delays that follow the advice on their kind: when a value changes, and to what."""

from dataclasses import dataclass
from datetime import timedelta

from perdure.domain.advice import RetryAdvice, Share, TimeoutAdvice

STAYS = timedelta(hours=1)
"""A value that has changed stays for so long, unless attempts run out of time because of it."""
STEP = 1.25
"""A time-out changes only by so much or more: what is nearly the same is left alone."""
FALL = 2.0
"""A time-out falls at most to its half at a time, and grows to its double when attempts run out of it."""


USUAL = 0.01
"""The share of attempts that may run out of time where nothing is known of before."""
NONE = Share(part=0, of=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a kind follows, in seconds: from `timeout_least_s` to `timeout_most_s`, its own time-out, None for no limit."""

    kind: str
    timeout_least_s: float | None = None
    timeout_most_s: float | None = None
    retry_most_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What a kind goes by at present; None where it is its own. `why` says what led to the last change.

    `ran_out` is the share of attempts that ran out of the kind's own time-out, before anything was followed.
    """

    timeout_s: float | None = None
    retry_s: float | None = None
    ran_out: Share = NONE
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the attempts of a kind say: advice, and the share that ran out of time, all since the time-out changed last."""

    timeout: TimeoutAdvice | None
    retry: RetryAdvice | None
    ran_out: Share


def followed(wish: Wish, now: InForce, found: Evidence, *, stood: timedelta) -> InForce:
    """What is in force from now on; `stood` is how long it has been what it is. It is `now` itself when nothing changes.

    A time-out grows at once when more attempts run out of it than ran out of the kind's own, beyond doubt. Otherwise it follows the advice
    when it has stood for a while and the difference is worth it, and falls to no less than its half at a time.
    """
    if _runs_out(now, found):
        return _widened(wish, now, found)
    if stood < STAYS and (now.timeout_s is not None or now.retry_s is not None):
        return now
    timeout_s = _next_timeout(wish, now.timeout_s, found.timeout)
    retry_s = _next_retry(wish, now.retry_s, found.retry)
    if (timeout_s, retry_s) == (now.timeout_s, now.retry_s):
        return now
    return InForce(
        timeout_s=timeout_s,
        retry_s=retry_s,
        ran_out=found.ran_out if now.timeout_s is None else now.ran_out,
        why=_why(now, timeout_s, retry_s, found),
    )


def _runs_out(now: InForce, found: Evidence) -> bool:
    before = now.ran_out.bounds[1] if now.ran_out.of else USUAL
    return now.timeout_s is not None and found.ran_out.bounds[0] > before


def _widened(wish: Wish, now: InForce, found: Evidence) -> InForce:
    wider = (now.timeout_s or 0.0) * FALL
    own = wish.timeout_least_s is None or (wish.timeout_most_s is not None and wider >= wish.timeout_most_s)
    why = (
        f"{found.ran_out.part} of {found.ran_out.of} attempts ran out of {now.timeout_s:g} s;"
        f" {now.ran_out.part} of {now.ran_out.of} did before"
    )
    return InForce(timeout_s=None if own else wider, retry_s=now.retry_s, ran_out=now.ran_out, why=why)


def _next_timeout(wish: Wish, now_s: float | None, advice: TimeoutAdvice | None) -> float | None:
    if wish.timeout_least_s is None:
        return None
    if advice is None:
        return _within(wish, now_s)
    wanted = max(advice.timeout_s, wish.timeout_least_s, (now_s or 0.0) / FALL)
    near = now_s is not None and now_s / STEP < wanted < now_s * STEP
    return _within(wish, now_s if near else wanted)


def _within(wish: Wish, seconds: float | None) -> float | None:
    """The time-out within the bounds of the kind, which may have changed; None when it is the kind's own."""
    if seconds is None or (wish.timeout_most_s is not None and seconds >= wish.timeout_most_s):
        return None
    return max(seconds, wish.timeout_least_s or 0.0)


def _next_retry(wish: Wish, now_s: float | None, advice: RetryAdvice | None) -> float | None:
    if wish.retry_most_s is None:
        return None
    wanted = now_s if advice is None else advice.delay_s
    return None if not wanted else min(wanted, wish.retry_most_s)


def _why(now: InForce, timeout_s: float | None, retry_s: float | None, found: Evidence) -> str:
    told = []
    if timeout_s != now.timeout_s:
        share = found.timeout.ended if found.timeout else None
        told.append(
            "the time-out is the kind's own again"
            if share is None or timeout_s is None
            else f"{share.of - share.part} of {share.of} successes stay within the advised time-out"
        )
    if retry_s != now.retry_s:
        went = found.retry.succeeded if found.retry else None
        told.append(
            "no delay is advised any more"
            if went is None or retry_s is None
            else f"{went.part} of {went.of} retries succeeded after that delay"
        )
    return "; ".join(told)
