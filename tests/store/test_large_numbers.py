"""Numbers beyond 32 bits: jobs, tokens and workers are UUIDs, so what grows without end is PostgreSQL's number of a transaction."""

import asyncio
import signal
import subprocess

from perdure.runtime.embedded import run_as
from perdure.services.check import Check
from perdure.stores.postgres.history import PostgresHistory
from tests.support.servers import PostgresServer, postgres_binaries, run_as_chosen
from tests.support.system import system_on

EPOCH = 40_000
"""The next transaction is the 2^32nd times this: 2^47 and more, which is where a number of 48 bits is half used up."""
THEN = "SELECT s.state::text FROM perdure.standing_at($1, $2::text::pg_snapshot) s"


async def test_jobs_run_and_are_looked_back_on_after_2_to_the_47_transactions(
    private_postgres: PostgresServer,
) -> None:
    """Numbers of before and after stand side by side: in claims, in settlements, in cuts and in what the checker orders."""
    async with system_on(private_postgres.url) as system:
        early, waiting = await system.add(), await system.add("app.later")
        await system.run()
    await asyncio.to_thread(move_on, private_postgres)
    async with system_on(private_postgres.url) as system:
        cut = str(await system.sql.fetchval("SELECT pg_current_snapshot()::text"))
        assert int(cut.split(":", maxsplit=1)[0]) > 2**47
        child = await system.add(after=[early, waiting])
        assert await system.run(kind="app.later") == waiting
        assert await system.run() == child
        assert {await system.state(job) for job in (early, waiting, child)} == {"completed"}
        assert await system.sql.fetchval(THEN, early, cut) == "completed"
        assert await system.sql.fetchval(THEN, waiting, cut) == "available"
        report = await Check(PostgresHistory(system.database)).run(drained=True)
        assert report.ok, report.words()


def move_on(server: PostgresServer) -> None:
    """Have a stopped cluster go on as if that many transactions had been."""
    program, data = postgres_binaries().folder / "pg_resetwal", server.folder / "data"
    server.stop()
    command = [str(program), "-e", str(EPOCH), str(data)]
    subprocess.run(
        run_as.command_as(run_as_chosen(), command, death_signal=signal.SIGKILL), check=True, timeout=60
    )
    server.start()
