"""`perdure kind advise`, as somebody at a terminal meets it."""

import asyncio

from perdure.surfaces.cli.exits import Exit
from tests.support.attempts import went
from tests.support.command import Command
from tests.support.system import system_on


def test_the_command_says_it_in_words_and_as_json(perdure: Command) -> None:
    async def prepare() -> None:
        async with system_on(perdure.variables["PERDURE_DATABASE_URL"]) as system:
            await went(system)

    asyncio.run(prepare())
    words = perdure("kind", "advise", "app.work", "-o", "table")
    assert words.code == Exit.DONE
    for part in ("median 2 s, p90 2 s", "33% (20 of 60)", "ValueError: boom", "fewer than 30"):
        assert part in words.out, words.out
    told = perdure("kind", "advise", "app.work", "--within", "1h", "--json").json
    assert (told["failure"]["part"], told["duration"]["successes"]) == (20, 40)
    assert perdure("kind", "advise", "app.none").code == Exit.NOT_FOUND
    assert perdure("kind", "advise", "app.work", "--within", "0s").code == Exit.USAGE
