"""Cordoning and evacuating from the command line."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command
from tests.support.system import System, system_on


@pytest.fixture
def prepared(database_url: str) -> Callable[[Callable[[System], Awaitable[object]]], None]:
    """Does something by hand in the database of the commands."""

    def prepare(act: Callable[[System], Awaitable[object]]) -> None:
        async def done() -> None:
            async with system_on(database_url) as system:
                await act(system)

        asyncio.run(done())

    return prepare


async def two_workers_and_two_jobs(system: System) -> None:
    worker = await system.worker("old")
    await system.worker("new")
    await system.add_many(2)
    await system.claim(worker, limit=2)


def test_a_dry_run_shows_the_moves_and_a_real_one_needs_a_yes(
    perdure: Command, prepared: Callable[[Callable[[System], Awaitable[object]]], None]
) -> None:
    prepared(two_workers_and_two_jobs)
    shown = perdure("worker", "evacuate", "old", "--dry-run", "--json").json
    assert shown["moves"] == ["2 app.work of default to new"]
    assert shown["changed"] is False
    assert perdure("worker", "evacuate", "old").code == Exit.USAGE
    assert (
        perdure("worker", "evacuate", "old", "--yes", "--reason", "drill", "--json").json["changed"] is True
    )
    assert perdure("worker", "uncordon", "old").code == Exit.REFUSED


def test_a_cordon_is_shown_and_undone(
    perdure: Command, prepared: Callable[[Callable[[System], Awaitable[object]]], None]
) -> None:
    prepared(two_workers_and_two_jobs)
    assert perdure("worker", "cordon", "new", "--dry-run", "--json").json["changed"] is False
    assert "cordoned" not in perdure("worker", "list").out
    assert perdure("worker", "cordon", "new", "--json").json["changed"] is True
    assert "cordoned" in perdure("worker", "list").out
    assert perdure("worker", "uncordon", "new", "--json").json["changed"] is True
    assert "cordoned" not in perdure("worker", "list").out
    assert perdure("worker", "cordon", "nobody").code == Exit.NOT_FOUND
