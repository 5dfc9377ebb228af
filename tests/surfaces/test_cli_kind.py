"""`perdure kind advise`, as somebody at a terminal meets it."""

import asyncio

from perdure.domain.following import InForce, Wish
from perdure.stores.postgres.following import PostgresFollowing
from perdure.surfaces.cli.exits import Exit
from tests.support.attempts import went
from tests.support.command import Command
from tests.support.system import system_on


def test_the_command_says_it_in_words_and_as_json(perdure: Command) -> None:
    async def prepare() -> None:
        async with system_on(perdure.variables["PERDURE_DATABASE_URL"]) as system:
            await went(system)
            store = PostgresFollowing(system.database)
            await store.wish([Wish(kind="app.work", timeout_least_s=2.0, timeout_most_s=300.0)])
            await store.change(
                "app.work", InForce(), InForce(timeout_s=6.0, why="it went well"), actor="advice"
            )

    asyncio.run(prepare())
    words = perdure("kind", "advise", "app.work", "-o", "table")
    assert words.code == Exit.DONE
    for part in (
        "median 2 s, p90 2 s",
        "33% (20 of 60)",
        "ValueError: boom",
        "fewer than 30",
        "6 s, within 2 s to 300 s",
    ):
        assert part in words.out, words.out
    told = perdure("kind", "advise", "app.work", "--within", "1h", "--json").json
    assert (told["failure"]["part"], told["duration"]["successes"]) == (20, 40)
    assert (told["follows"]["now"]["timeout_s"], told["follows"]["now"]["why"]) == (6.0, "it went well")
    assert perdure("kind", "advise", "app.none").code == Exit.NOT_FOUND
    assert perdure("kind", "advise", "app.work", "--within", "0s").code == Exit.USAGE
