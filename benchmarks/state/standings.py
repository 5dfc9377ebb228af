"""Where every job stood at a cut, as counts and sums that two databases can be compared by."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg

COMPLETED = """
SELECT count(*) AS jobs, coalesce(sum(hashtextextended(e.job_id::text || e.run || e.attempt, 0)::numeric), 0) AS sum
FROM perdure.job_executions e WHERE e.state = 'completed' AND perdure.seen(e.settle_xid, $1::text::pg_snapshot)
"""
OTHERS = """
SELECT s.state::text AS state, count(*) AS jobs, sum(hashtextextended(concat_ws('/', s.job_id, extract(epoch FROM s.since)), 0)::numeric) AS sum
FROM perdure.standings_at($1::text::pg_snapshot, 'ffffffff-ffff-ffff-ffff-ffffffffffff', '-infinity') s GROUP BY 1
"""
LACKING = "SELECT w.id FROM unnest($1::uuid[]) w (id) WHERE NOT EXISTS (SELECT FROM perdure.jobs j WHERE j.id = w.id)"
DONE_BEFORE = """
SELECT DISTINCT e.job_id FROM perdure.job_executions e
WHERE e.job_id = ANY ($1::uuid[]) AND e.state = 'completed' AND perdure.seen(e.settle_xid, $2::text::pg_snapshot)
"""
SETTLED = "SELECT count(*) FROM perdure.job_executions e WHERE e.settled_at >= $1 AND e.settled_at < $2"

Standings = Mapping[str, tuple[int, int]]


async def standings(url: str, cut: str) -> Standings:
    """By state: the number of jobs, and a sum over their ids and since when they were in it; of completed ones over their runs and attempts."""
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    done = await connection.fetchrow(COMPLETED, cut)
    others = await connection.fetch(OTHERS, cut)
    await connection.close()
    told = {row["state"]: (int(row["jobs"]), int(row["sum"])) for row in others}
    return {"completed": (int(done["jobs"]), int(done["sum"])), **told} if done else told


def differing(first: Standings, second: Standings) -> int:
    """In how many states they differ."""
    return sum(first.get(state) != second.get(state) for state in first.keys() | second.keys())


async def lacking(url: str, ids: Sequence[UUID]) -> set[UUID]:
    """Those that the database does not know."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(LACKING, list(ids))
    await connection.close()
    return {row["id"] for row in rows}


async def done_before(url: str, ids: Sequence[UUID], cut: str) -> set[UUID]:
    """Those that had been completed at the cut."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(DONE_BEFORE, list(ids), cut)
    await connection.close()
    return {row["job_id"] for row in rows}
