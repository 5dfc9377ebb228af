"""A process that can no longer hear its supervisor, or tell of itself, ends, so that another takes its place."""

import asyncio
from types import SimpleNamespace

import pytest

from perdure.runtime import child


async def fails() -> None:
    raise OSError("too many open files")


async def lasts() -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(("ends", "exits"), [(True, [1]), (False, [])], ids=["failed", "cancelled"])
async def test_the_end_of_a_task_that_must_not_fail_is_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch, ends: bool, exits: list[int]
) -> None:
    """One that is cancelled has done its work."""
    codes: list[int] = []
    monkeypatch.setattr(child, "os", SimpleNamespace(_exit=codes.append))
    task = asyncio.create_task(fails() if ends else lasts())
    task.add_done_callback(child._must_not_fail)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert codes == exits
