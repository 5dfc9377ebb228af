"""Predictions and health from the command line."""

import asyncio

from perdure.surfaces.cli.exits import Exit
from tests.services.test_watch import tells, watch_of
from tests.support.command import Command
from tests.support.system import system_on


def test_a_leaking_worker_is_foretold_and_its_health_explained(perdure: Command, database_url: str) -> None:
    async def prepare() -> None:
        async with system_on(database_url) as system:
            await tells(system, await system.worker("leaking"), leak=1.0)
            await tells(system, await system.worker("sound"))
            await watch_of(system).run_once()

    asyncio.run(prepare())
    found = perdure("worker", "predict", "leaking", "--json").json
    assert found["action"] == "evacuate"
    assert found["probability"] > 0.5
    assert found["reasons"][0].startswith("memory fills")
    assert perdure("worker", "predict", "sound", "--json").json["action"] == "continue"
    listed = perdure("worker", "health").out
    assert "leaking" in listed
    assert "sound" in listed
    shown = perdure("worker", "health", "leaking", "--json").json
    assert (shown["healthy"], shown["share"]) == (False, 0.0)
    assert shown["parts"][0].startswith("memory fills: -")
    assert perdure("worker", "predict", "leaking", "--horizon", "8d").code == Exit.USAGE
    assert perdure("worker", "predict", "nobody").code == Exit.NOT_FOUND
    assert perdure("worker", "anomalies", "leaking").code == 0
