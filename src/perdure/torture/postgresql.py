"""PostgreSQL that crashes, restarts, loses sessions, refuses writes, fails statements or is cut off."""

import asyncio

from perdure.stores.postgres.faults import crowd
from perdure.torture.place import Place
from perdure.torture.scenario import Scenario, fault

OUTAGE_S = 8.0
CUT_S = 8.0
ROUNDS, ROUNDS_OF_A_MINUTE = 10, 120
BETWEEN_S = 0.5


async def nobody_was_declared_dead(place: Place) -> None:
    """An outage of the database is nobody's death."""
    place.expect(
        await place.fleet.workers_in("dead") == 0,
        "a worker was declared dead because the database was away",
    )


@fault(
    Scenario(
        name="postgres-crash",
        numbers=(11, 12),
        produced="an immediate stop (SIGQUIT) while asynchronous claims are in flight, and a start",
        holds="claims that were not on disk vanish and their jobs are seen as available; no token is accepted twice; an enqueue "
        "without an answer is repeated with its ids and doubles nothing",
    ),
    check=nobody_was_declared_dead,
)
async def postgres_crash(place: Place) -> None:
    await asyncio.to_thread(place.servers.crash_postgres)
    await asyncio.to_thread(place.servers.postgres.start)


@fault(
    Scenario(
        name="postgres-restart",
        numbers=(11,),
        produced="a fast stop (SIGINT) in the middle of commits, and a start",
        holds="as for a crash",
    ),
    check=nobody_was_declared_dead,
)
async def postgres_restart(place: Place) -> None:
    await asyncio.to_thread(place.servers.postgres.stop)
    await asyncio.to_thread(place.servers.postgres.start)


@fault(
    Scenario(
        name="postgres-outage",
        numbers=(15,),
        produced="PostgreSQL is away for 8 s, longer than the silence after which workers are declared dead",
        holds="on its return nobody is declared dead: an observer that was blind itself judges nobody; all processes live",
    ),
    check=nobody_was_declared_dead,
)
async def postgres_outage(place: Place) -> None:
    before = len(place.living)
    await asyncio.to_thread(place.servers.postgres.stop)
    await place.pause(OUTAGE_S)
    await asyncio.to_thread(place.servers.postgres.start)
    place.expect(len(place.living) == before, "a worker ended because the database was away")


@fault(
    Scenario(
        name="terminated-backends",
        numbers=(10,),
        produced="`pg_terminate_backend` for all sessions of workers and producers, twice a second for 5 s",
        holds="every connection comes back, and no lease is left behind",
    )
)
async def terminated_backends(place: Place) -> None:
    await _terminate(place, ROUNDS)


@fault(
    Scenario(
        name="terminated-for-a-minute",
        numbers=(10,),
        produced="the same for a minute",
        holds="as for 5 s, and the backlog of that minute is worked off",
        long=True,
    )
)
async def terminated_for_a_minute(place: Place) -> None:
    await _terminate(place, ROUNDS_OF_A_MINUTE)


async def _terminate(place: Place, rounds: int) -> None:
    cut = 0
    for _ in range(rounds):
        cut += await place.faults.terminate()
        await asyncio.sleep(BETWEEN_S)
    place.expect(cut > rounds, f"only {cut} sessions were cut")


@fault(
    Scenario(
        name="read-only",
        numbers=(16,),
        produced="`default_transaction_read_only = on` for 5 s, as on a primary that has lost its role",
        holds="claims stop, results wait, nothing is lost",
    )
)
async def read_only(place: Place) -> None:
    await place.faults.refuse_writes()
    await place.pause(5)
    await place.faults.allow_writes()


@fault(
    Scenario(
        name="serialization-failures",
        numbers=(19,),
        produced="for 6 s one in twenty of the statements that write to the tables of jobs, workers and leaders fails with 40001 or 40P01",
        holds="each is repeated; its effects happen once",
    )
)
async def serialization_failures(place: Place) -> None:
    async with place.faults.statements_fail():
        await place.pause(6)


@fault(
    Scenario(
        name="cut-from-postgres",
        numbers=(8,),
        produced="a host's connections to PostgreSQL are reset and refused for 8 s",
        holds="it is declared dead and stops by itself; its jobs run elsewhere; what it says late is refused",
    )
)
async def cut_from_postgres(place: Place) -> None:
    host = place.any_host()
    host.postgres.cut()
    await place.pause(CUT_S)
    host.postgres.mend()


@fault(
    Scenario(
        name="deaf-to-postgres",
        numbers=(8,),
        produced="for 8 s a host's statements reach PostgreSQL, and no answer comes back",
        holds="as for a cut; what it claimed without hearing of it runs elsewhere",
        within_s=45,
    )
)
async def deaf_to_postgres(place: Place) -> None:
    host = place.any_host()
    host.postgres.hold(there=False)
    await place.pause(CUT_S)
    host.postgres.mend()


@fault(
    Scenario(
        name="crowded",
        numbers=(17,),
        produced="idle sessions of others take every connection that is left, for 6 s",
        holds="workers keep the few that they have: claiming and settling do not wait for each other, and work goes on",
        postgres={"max_connections": "60"},
    )
)
async def crowded(place: Place) -> None:
    # Workers that have no connection yet would rightly wait until the crowd leaves.
    await place.goes_on(within_s=30)
    sessions = await crowd(place.servers.database_url)
    try:
        place.expect(sessions, "no session was left to take")
        await place.goes_on(within_s=30)
        await place.pause(4)
    finally:
        for session in sessions:
            session.terminate()


@fault(
    Scenario(
        name="disk-full",
        numbers=(16,),
        produced="the database lies in a tablespace on a file system of 64 MB, which is filled to the last byte for 6 s",
        holds="enqueues are refused, claims stop and results wait as long as rows find no room; nothing is lost",
        root=True,
    )
)
async def disk_full(place: Place) -> None:
    place.expect(place.disk, "the database does not lie on a small disk")
    if place.disk is not None:
        repeated = place.load.repeated
        await asyncio.to_thread(place.disk.fill)
        await place.refused(repeated)
        await place.pause(6)
        place.disk.clear()


@fault(
    Scenario(
        name="pinned-horizon",
        numbers=(20,),
        produced="a transaction stays open for 10 s, so that no dead row can be removed",
        holds="work goes on as before",
    )
)
async def pinned_horizon(place: Place) -> None:
    async with place.faults.horizon_pinned():
        await place.pause(10)
        await place.goes_on(within_s=10)
