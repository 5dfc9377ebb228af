"""Trained models from the command line."""

import asyncio

from perdure.surfaces.cli.exits import Exit
from tests.services.test_models import ME, fleet_on, lived
from tests.support.command import Command


def test_models_are_trained_shown_promoted_judged_and_rolled_back(
    perdure: Command, database_url: str
) -> None:
    assert perdure("model", "train").code == Exit.REFUSED

    async def prepare() -> None:
        async with fleet_on(database_url) as fleet:
            await lived(fleet)

    asyncio.run(prepare())
    trained = perdure("model", "train", "--json", "--reason", "a test").json
    assert (trained["state"], trained["facts"]["faults"]) == ("shadow", [])
    number = str(trained["id"])
    assert perdure("model", "evaluate").code == Exit.NOT_FOUND
    assert perdure("model", "promote", number, "--json").json["state"] == "champion"
    assert perdure("model", "promote", number).code == Exit.REFUSED
    assert perdure("model", "evaluate", "--json").json["faults"] == []
    assert "champion" in perdure("model", "list").out
    assert perdure("model", "show", number, "--json").json["kind"].startswith("linear")
    assert perdure("model", "rollback", "--json").json["method"] == "limits"
    assert perdure("model", "rollback").code == Exit.REFUSED
    assert perdure("model", "show", "99").code == Exit.NOT_FOUND
    assert perdure("model", "train", "--dry-run").code == Exit.USAGE


def test_a_tampered_model_is_refused_with_its_own_code(perdure: Command, database_url: str) -> None:
    async def prepare() -> int:
        async with fleet_on(database_url) as fleet:
            await lived(fleet)
            model = await fleet.models.train(ME)
            await fleet.system.sql.execute("UPDATE perdure.models SET body = 'rubbish'")
            return model.id

    number = asyncio.run(prepare())
    refused = perdure("model", "promote", str(number), "--json")
    assert (refused.code, "PERDURE-3008" in refused.err) == (Exit.REFUSED, True)
