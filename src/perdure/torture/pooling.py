"""PostgreSQL behind a pooler in transaction mode."""

from perdure.torture.place import Place
from perdure.torture.pooler import pooled
from perdure.torture.scenario import Scenario, story
from perdure.torture.servers import DATABASE

SESSIONS = 6
JOBS = 150
PASSING = {"jit = on", "jit = off"}
"""The driver turns it off for a moment when it asks for the types of a session."""


@story(
    Scenario(
        name="transaction-pooler",
        numbers=(18,),
        produced="a host reaches PostgreSQL through a pooler in transaction mode with 6 sessions",
        holds="it works by polling and says that it hears no notifications; no session keeps a setting that another user of the "
        "pooler would get, so nobody's commits become asynchronous",
        within_s=60,
    )
)
async def transaction_pooler(place: Place) -> None:
    socket = place.servers.postgres_socket
    async with pooled(socket, user="postgres", database=DATABASE, sessions=SESSIONS) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{DATABASE}?sslmode=disable"
        host = await place.host(database_url=url, redis_url="")
        place.struck()
        await place.load.add(JOBS)
        await place.recover()

        async def says_so() -> bool:
            await place.load.add(1)
            return "hears no notifications" in host.log.read_text("utf-8")

        await place.until(says_so, what="the worker says that it is deaf")
        changed = await place.faults.settings_through(url, times=4 * SESSIONS) - PASSING
        place.expect(not changed, f"a session was left with settings of others: {', '.join(sorted(changed))}")
        await place.drained()
