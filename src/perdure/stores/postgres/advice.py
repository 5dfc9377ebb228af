"""How the attempts of a kind went, read from the history within bounds."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import msgspec

from perdure.domain.advice import Attempt
from perdure.domain.errors import DatabaseUnavailable, NotFound
from perdure.domain.redaction import Redaction
from perdure.domain.settlement import Outcome
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)
SPANS = (timedelta(hours=1), timedelta(days=1))
ENOUGH = 2_000
LARGEST = 2.0**53


class PostgresAttempts:
    """The port `Attempts` on PostgreSQL; what `redaction` hides is not looked at."""

    def __init__(self, database: Database, redaction: Redaction, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._redaction = redaction
        self._sql = statements("advice", schema)
        self._bounds = statements("insights", schema)

    async def of_kind(
        self, kind: str, *, within: timedelta, limit: int, budget: timedelta
    ) -> Sequence[Attempt]:
        (told,) = await self._database.fetch(self._sql["known"], kind)
        if not told["known"]:
            raise NotFound("kind", kind, next_step="`perdure queue list` shows the kinds of each queue")
        rows: list[asyncpg.Record] = []
        for span in (*(span for span in SPANS if span < within), within):
            bounded = (self._bounds["bounded"], (str(max(1, budget // MILLISECOND)),))
            asked = (self._sql["attempts"], (kind, span // MILLISECOND, limit))
            try:
                rows = (await self._database.fetch_all(bounded, asked))[1]
            except asyncpg.QueryCanceledError as error:
                if rows:
                    break
                raise DatabaseUnavailable(
                    f"the answer did not come within {budget.total_seconds():g} s",
                    next_step="ask for a shorter span, or give it more time",
                ) from error
            if len(rows) >= ENOUGH:
                break
        return [self._attempt(row) for row in rows]

    def _attempt(self, row: Row) -> Attempt:
        return Attempt(
            job_id=row["job_id"],
            run=row["run"],
            attempt=row["attempt"],
            outcome=Outcome(row["outcome"]),
            settled_at=row["settled_at"],
            ran_s=row["ran_s"],
            retry_s=row["retry_s"],
            error=row["error"] or "",
            message=self._redaction.of_text(row["message"] or ""),
            labels=tuple(sorted(row["labels"])),
            timeout_s=None if row["timeout_ms"] is None else row["timeout_ms"] / 1000,
            numbers=self._numbers(row["args"]),
        )

    def _numbers(self, args: str | None) -> dict[str, float]:
        if args is None:
            return {}
        shown = self._redaction.of_json(msgspec.Raw(args.encode()))
        decoded = msgspec.json.decode(shown or b"{}", type=dict[str, object])
        return {
            name: float(value)
            for name, value in decoded.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
        }
