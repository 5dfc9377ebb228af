"""Keep the values of kinds that follow the advice on them up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from perdure.domain.advice import Attempt, Share, advise
from perdure.domain.errors import NotFound
from perdure.domain.following import Evidence, InForce, followed
from perdure.domain.settlement import Outcome
from perdure.state_ports import Attempts, FollowedAdvice

EVERY = timedelta(minutes=10)
"""So often each kind is looked at."""
FORGOTTEN = timedelta(days=1)
"""A kind whose workers are gone for so long is not looked at."""
WITHIN = timedelta(days=7)
MOST = 10_000
BUDGET = timedelta(seconds=5)
ACTOR = "advice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Values that were put in force."""

    kind: str
    before: InForce
    after: InForce


class Follow:
    """Looks at one kind a round, at the one that has waited longest, and puts other values in force where the rules say so."""

    def __init__(self, followed_advice: FollowedAdvice, attempts: Attempts) -> None:
        self._followed = followed_advice
        self._attempts = attempts

    async def run_once(self) -> Changed | None:
        """What was changed. Raises DatabaseUnavailable, also when a kind's attempts cannot be read in time: the next round takes another kind."""
        found = await self._followed.due(every=EVERY, forgotten=FORGOTTEN)
        if found is None:
            return None
        kind = found.wish.kind
        await self._followed.looked(kind)
        try:
            attempts = await self._attempts.of_kind(kind, within=WITHIN, limit=MOST, budget=BUDGET)
        except NotFound:  # nobody has enqueued it yet
            return None
        evidence = _evidence(kind, attempts, found.changed_at)
        after = followed(found.wish, found.now, evidence, stood=found.stood or timedelta(0))
        if after == found.now or not await self._followed.change(kind, found.now, after, actor=ACTOR):
            return None
        return Changed(kind=kind, before=found.now, after=after)


def _evidence(kind: str, attempts: Sequence[Attempt], changed_at: datetime | None) -> Evidence:
    """Of time-outs only what has ended since the last change counts; retries at other delays are told of by all."""
    since = [each for each in attempts if changed_at is None or each.settled_at > changed_at]
    return Evidence(
        timeout=advise(kind, since).timeout,
        retry=advise(kind, attempts).retry,
        ran_out=Share(part=sum(each.outcome is Outcome.TIMED_OUT for each in since), of=len(since)),
    )
