"""A process that can no longer hear its supervisor, or tell of itself, ends, so that another takes its place."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from perdure.runtime import child
from perdure.runtime.children import ChildProcess
from perdure.runtime.runners import frames


async def fails() -> None:
    raise OSError("too many open files")


async def lasts() -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(("ends", "exits"), [(True, [1]), (False, [])], ids=["failed", "cancelled"])
async def test_the_end_of_a_task_that_must_not_fail_is_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch, ends: bool, exits: list[int]
) -> None:
    """By its own fault, so that no job is blamed. One that is cancelled has done its work."""
    codes: list[int] = []
    told = asyncio.StreamReader()
    writer: Any = SimpleNamespace(write=told.feed_data)
    monkeypatch.setattr(child, "os", SimpleNamespace(_exit=codes.append))
    task = asyncio.create_task(fails() if ends else lasts())
    task.add_done_callback(partial(child._must_not_fail, writer))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert codes == exits
    told.feed_eof()
    if ends:
        supervised = ChildProcess(1, isolated=False)
        supervised._hear(await frames.read(told), lambda news: None)
        assert supervised.fault == "OSError: too many open files"
    assert await frames.read(told) is None


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_last_words_are_heard_though_something_was_left_unread(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A supervisor tells its processes something at any time, also while one closes what it has."""

    async def hear() -> list[object]:
        ours, theirs = socket.socketpair()
        reader, writer = await frames.connect(ours)
        writer.write(frames.pack({"share": 0.5}))
        await writer.drain()
        theirs.sendall(frames.pack({"figures": {}}) + frames.pack({"bye": True}))
        theirs.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return [await frames.read(reader) for _ in range(3)]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(hear()) == [{"figures": {}}, {"bye": True}, None]
