"""Keeps the answers of requests by the keys that their callers gave."""

from dataclasses import dataclass
from datetime import timedelta

from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

MILLISECOND = timedelta(milliseconds=1)
STALE = timedelta(minutes=2)
"""A request without an answer for so long has broken off, and may be repeated under its key."""
KEPT = timedelta(hours=24)
SWEPT_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known under a key: the digest of its request, and the answer once there is one."""

    digest: bytes
    status: int | None
    answer: bytes


class PostgresRequests:
    """Answers by caller and key, for a day."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("requests", schema)

    async def take(self, actor: str, key: str, digest: bytes) -> Kept | None:
        """Begin a request under its key: None when it may go on, else what is there already."""
        await self._database.fetch(self._sql["sweep_answers"], KEPT // MILLISECOND, SWEPT_AT_ONCE)
        while not await self._database.fetch(self._sql["take"], actor, key, digest, STALE // MILLISECOND):
            rows = await self._database.fetch(self._sql["answer_of"], actor, key)
            if rows:  # none: it was let go in between
                return Kept(rows[0]["digest"], rows[0]["status"], rows[0]["answer"] or b"")
        return None

    async def answer(self, actor: str, key: str, status: int, body: bytes) -> None:
        """Keep the answer for those who ask again."""
        await self._database.fetch(self._sql["answer"], actor, key, status, body)

    async def let_go(self, actor: str, key: str) -> None:
        """Forget a request that did nothing, so that it can be repeated under its key."""
        await self._database.fetch(self._sql["let_go"], actor, key)
