"""What kinds follow of the advice on them, and what is in force, in a table of its own."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from perdure.domain.advice import Share
from perdure.domain.following import InForce, Wish
from perdure.state_ports import Following
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)


class PostgresFollowing:
    """The port `FollowedAdvice` on PostgreSQL."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("following", schema)

    async def wish(self, wishes: Sequence[Wish]) -> None:
        await self._database.fetch(
            self._sql["wish"],
            [wish.kind for wish in wishes],
            [_ms(wish.timeout_least_s) for wish in wishes],
            [_ms(wish.timeout_most_s) for wish in wishes],
            [_ms(wish.retry_most_s) for wish in wishes],
        )

    async def in_force(self, kinds: Sequence[str]) -> Mapping[str, InForce]:
        rows = await self._database.fetch(self._sql["in_force"], list(kinds))
        return {
            row["kind"]: InForce(timeout_s=_s(row["timeout_ms"]), retry_s=_s(row["retry_ms"])) for row in rows
        }

    async def due(self, *, every: timedelta, forgotten: timedelta) -> Following | None:
        rows = await self._database.fetch(self._sql["due"], every // MILLISECOND, forgotten // MILLISECOND)
        return _following(rows[0]) if rows else None

    async def of_kind(self, kind: str) -> Following | None:
        rows = await self._database.fetch(self._sql["of_kind"], kind)
        return _following(rows[0]) if rows else None

    async def looked(self, kind: str) -> None:
        await self._database.fetch(self._sql["looked"], kind)

    async def change(self, kind: str, before: InForce, after: InForce, *, actor: str) -> bool:
        told = await self._database.fetch(
            self._sql["change"],
            kind,
            _ms(after.timeout_s),
            _ms(after.retry_s),
            after.ran_out.part,
            after.ran_out.of,
            after.why,
            _ms(before.timeout_s),
            _ms(before.retry_s),
            actor,
        )
        return bool(told)


def _following(row: Row) -> Following:
    return Following(
        wish=Wish(
            kind=row["kind"],
            timeout_least_s=_s(row["timeout_least_ms"]),
            timeout_most_s=_s(row["timeout_most_ms"]),
            retry_most_s=_s(row["retry_most_ms"]),
        ),
        now=InForce(
            timeout_s=_s(row["timeout_ms"]),
            retry_s=_s(row["retry_ms"]),
            ran_out=Share(part=row["ran_out"], of=row["ran_out_of"]),
            why=row["why"],
        ),
        changed_at=row["changed_at"],
        stood=None if row["stood_s"] is None else timedelta(seconds=row["stood_s"]),
    )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, round(seconds * 1000))


def _s(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
