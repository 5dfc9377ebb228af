"""Advice on a kind: what its history says of durations, failures, time-outs, retries and workers."""

from datetime import timedelta

from perdure.domain.advice import Advice, advise
from perdure.domain.errors import InvalidOption
from perdure.state_ports import Attempts

WEEK = timedelta(days=7)
MOST = 10_000
BUDGET = timedelta(seconds=5)


class Advise:
    """Reads a bounded part of the history and says what follows from it; nothing is changed."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts

    async def kind(
        self, kind: str, *, within: timedelta = WEEK, limit: int = MOST, budget: timedelta = BUDGET
    ) -> Advice:
        """What the newest attempts of a kind say, at most `limit` of those within a span.

        Raises NotFound for a kind that nobody has enqueued, InvalidOption, and DatabaseUnavailable when it takes longer than the budget.
        """
        if within <= timedelta(0):
            raise InvalidOption("within", "must be longer than nothing", next_step="such as `7d`")
        return advise(kind, await self._attempts.of_kind(kind, within=within, limit=limit, budget=budget))
