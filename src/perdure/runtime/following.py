"""Kinds that follow the advice on them: what a process goes by, and the leader's part, which changes it."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from msgspec import structs

from perdure.domain.following import InForce, Wish
from perdure.domain.ids import made_at
from perdure.domain.lease import Lease
from perdure.domain.redaction import Redaction
from perdure.domain.retry import beyond_horizon
from perdure.domain.settlement import Ending, Failed
from perdure.runtime.runners.endings import AnyKind, Kinds
from perdure.runtime.settings import Settings
from perdure.services.execution import Attempt, Done, Runner
from perdure.services.follow import Follow
from perdure.state_ports import FollowedAdvice
from perdure.stores.postgres.advice import PostgresAttempts
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.following import PostgresFollowing

SPREAD = 0.2
"""Retries that wait as advised are spread over a fifth more, so that they do not all come at once."""
MILLISECOND = timedelta(milliseconds=1)


def wishes_of(kinds: Kinds) -> list[Wish]:
    """What these kinds follow; nothing of most."""
    return [_wish(kind) for _, kind in sorted(kinds.items()) if kind.options.follow_advice is not None]


def following_of_leader(settings: Settings, database: Database) -> Follow:
    """The leader's part; it reads attempts for up to five seconds, so it takes a connection that nobody waits for."""
    attempts = PostgresAttempts(database, Redaction(settings.redact), schema=settings.schema)
    return Follow(PostgresFollowing(database, schema=settings.schema), attempts)


class Followed:
    """The values that the kinds of one process go by, read anew now and then."""

    def __init__(self, kinds: Kinds, store: FollowedAdvice) -> None:
        self._wishes = wishes_of(kinds)
        self._store = store
        self._values: dict[str, _Values] = {}
        self._kinds = kinds

    def __bool__(self) -> bool:
        return bool(self._wishes)

    def get(self, kind: str) -> "_Values | None":
        """What a kind goes by; None when it goes by its own."""
        return self._values.get(kind)

    async def refresh(self) -> None:
        """Say what is followed, and read what is in force. Raises DatabaseUnavailable; what was read before stays then."""
        await self._store.wish(self._wishes)
        found = await self._store.in_force([wish.kind for wish in self._wishes])
        self._values = {name: _Values(self._kinds[name], value) for name, value in found.items()}


class FollowingRunner:
    """A runner whose attempts go by what is in force when they start; what runs already keeps its time-out.

    A job that was enqueued with a time-out of its own keeps that, and so does a retry whose delay the handler chose.
    """

    def __init__(self, runner: Runner, followed: Followed) -> None:
        self._runner = runner
        self._followed = followed

    def start(self, attempt: Attempt, done: Done) -> None:
        values = self._followed.get(attempt.lease.kind)
        if values is None:
            self._runner.start(attempt, done)
            return
        if (timeout_ms := values.timeout_of(attempt.lease)) is not None:
            attempt.lease = structs.replace(attempt.lease, timeout_ms=timeout_ms)
            attempt.deadline = attempt.started + timeout_ms / 1000
        self._runner.start(attempt, partial(_ended, values, done))

    def stop(self, attempt: Attempt) -> bool:
        return self._runner.stop(attempt)

    def timed_out(self, attempt: Attempt) -> Ending:
        values, ending = self._followed.get(attempt.lease.kind), self._runner.timed_out(attempt)
        return ending if values is None else values.delayed(attempt.lease, ending)

    async def close(self) -> None:
        await self._runner.close()


@dataclass(frozen=True, slots=True)
class _Values:
    kind: AnyKind
    now: InForce

    def timeout_of(self, lease: Lease) -> int | None:
        """The time-out for an attempt that begins now, where it is another than its job's."""
        own, least = self.kind.options.timeout, self._least
        if least is None or self.now.timeout_s is None:
            return None
        if lease.timeout_ms != (None if own is None else max(1, own // MILLISECOND)):
            return None
        wanted = max(round(self.now.timeout_s * 1000), least // MILLISECOND, 1)
        return wanted if lease.timeout_ms is None or wanted < lease.timeout_ms else None

    def delayed(self, lease: Lease, ending: Ending) -> Ending:
        """The ending with the advised delay, where its own is shorter and the last retry may start as late."""
        follow = self.kind.options.follow_advice
        if not isinstance(ending, Failed) or ending.give_up or ending.wished or self.now.retry_s is None:
            return ending
        if follow is None or follow.retry_at_most is None:
            return ending
        least = min(timedelta(seconds=self.now.retry_s), follow.retry_at_most) * (
            1 + SPREAD * random.random()
        )
        enqueued = made_at(lease.job_id) if lease.run == 1 else lease.available_at
        late = beyond_horizon(self.kind.options.retry, least, enqueued_at=enqueued, now=datetime.now(UTC))
        return ending if late or least <= ending.retry_in else replace(ending, retry_in=least)

    @property
    def _least(self) -> timedelta | None:
        follow = self.kind.options.follow_advice
        return None if follow is None else follow.timeout_at_least


def _ended(values: _Values, done: Done, attempt: Attempt, ending: Ending | None) -> None:
    done(attempt, None if ending is None else values.delayed(attempt.lease, ending))


def _wish(kind: AnyKind) -> Wish:
    follow, own = kind.options.follow_advice, kind.options.timeout
    if follow is None:
        return Wish(kind=kind.name)
    return Wish(
        kind=kind.name,
        timeout_least_s=_seconds(follow.timeout_at_least),
        timeout_most_s=None if follow.timeout_at_least is None else _seconds(own),
        retry_most_s=_seconds(follow.retry_at_most),
    )


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
