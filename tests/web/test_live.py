"""Live views: one rendering for all who watch the same, none when nobody does, and trouble that is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from perdure.domain.errors import DatabaseUnavailable
from perdure.surfaces.web.live import Live, Recent
from perdure.surfaces.web.pages.frame import environment
from perdure.surfaces.web.serve import served
from tests.support.system import System
from tests.support.waiting import eventually
from tests.support.web import web_settings

SOON_S = 20


async def messages(stream: AsyncIterator[str], count: int) -> list[str]:
    """The first messages of a stream that carry something."""
    found: list[str] = []
    async with asyncio.timeout(SOON_S):
        async for message in stream:
            if "data: " in message:
                found.append(message)
            if len(found) == count:
                break
    return found


class Counted:
    """A view that says how often it was rendered."""

    def __init__(self) -> None:
        self.times = 0
        self.shown = "one"
        self.often = asyncio.Event()

    async def __call__(self) -> str:
        self.times += 1
        if self.times == 5:
            self.often.set()
        return f"<p>{self.shown}</p>\n<p>x</p>"


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    made = Live(interval_s=0.02)
    yield made
    await made.close()


async def test_a_view_is_rendered_once_for_all_who_watch_it(live: Live) -> None:
    view = Counted()
    streams = [live.watch("key", view) for _ in range(20)]
    first = await asyncio.gather(*(messages(stream, 1) for stream in streams))
    assert {tuple(one) for one in first} == {("event: well\ndata: \n\ndata: <p>one</p>\ndata: <p>x</p>\n\n",)}
    assert view.times < 20
    assert live.views == 1
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    assert live.views == 0


async def test_only_a_version_that_differs_is_sent(live: Live) -> None:
    view = Counted()
    stream = live.watch("key", view)
    await messages(stream, 1)
    async with asyncio.timeout(SOON_S):
        await view.often.wait()
    view.shown = "two"
    (second,) = await messages(live.watch("key", view), 1)
    assert "<p>two</p>" in second or "<p>one</p>" in second
    await stream.aclose()  # type: ignore[attr-defined]


async def test_one_who_reads_slowly_holds_nobody_up_and_gets_the_newest_alone(live: Live) -> None:
    """However many versions there were meanwhile, none is kept for whoever has not come to read."""
    versions = iter(range(1_000_000))

    async def view() -> str:
        return f"<p>{next(versions)}</p>"

    slow, quick = live.watch("key", view), live.watch("key", view)
    (seen,) = await messages(slow, 1)
    last = (await messages(quick, 10))[-1]
    (next_one,) = await messages(slow, 1)
    assert number(seen) + 9 <= number(last) <= number(next_one)
    for stream in (slow, quick):
        await stream.aclose()  # type: ignore[attr-defined]


def number(message: str) -> int:
    """Which version a message carries."""
    return int(message.split("<p>")[1].split("</p>", maxsplit=1)[0])


async def test_what_fails_is_told_and_the_next_version_comes(live: Live) -> None:
    faults = [True, True, False]

    async def view() -> str:
        if faults and faults.pop(0):
            raise DatabaseUnavailable("it is away\nfor now")
        return "<p>back</p>"

    found = await messages(live.watch("key", view), 2)
    assert found[0] == "event: trouble\ndata: it is away for now\n\n"
    assert "<p>back</p>" in found[1]


async def test_nothing_is_rendered_when_nobody_watches(live: Live) -> None:
    view = Counted()
    stream = live.watch("key", view)
    await messages(stream, 1)
    await stream.aclose()  # type: ignore[attr-defined]
    times = view.times
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert view.times <= times + 1


async def test_an_answer_is_shared_while_it_is_fresh() -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return asked

    recent = Recent(keep_s=60)
    assert set(await asyncio.gather(*(recent.get("name", ask) for _ in range(50)))) == {1}
    assert await recent.get("name", ask, keep_s=0) == 2


async def test_a_failed_answer_is_asked_for_again() -> None:
    async def fails() -> int:
        raise DatabaseUnavailable("away")

    async def works() -> int:
        return 1

    recent = Recent(keep_s=60)
    with pytest.raises(DatabaseUnavailable):
        await recent.get("name", fails)
    assert await recent.get("name", works) == 1


async def test_one_who_gives_up_does_not_take_the_answer_from_others() -> None:
    free = asyncio.Event()

    async def ask() -> int:
        await free.wait()
        return 1

    recent = Recent(keep_s=60)
    first = asyncio.create_task(recent.get("name", ask))
    second = asyncio.create_task(recent.get("name", ask))
    await asyncio.sleep(0)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    free.set()
    assert await second == 1


async def test_a_page_changes_while_it_is_watched(database_url: str, system: System) -> None:
    """Over a real connection: what is enqueued appears, and one rendering serves both who watch."""
    async with (
        served(web_settings(database_url, web_port=0)) as server,
        httpx.AsyncClient(base_url=server.address, timeout=SOON_S) as client,
        client.stream("GET", "/live", params={"page": "/jobs"}) as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in stream.headers
        lines = stream.aiter_lines()
        async with asyncio.timeout(SOON_S):
            async for line in lines:
                if "There is no job yet" in line:
                    break
            job_id = await system.add("app.fresh")
            async for line in lines:
                if str(job_id) in line:
                    break
        unknown = await client.get("/live", params={"page": "/nowhere"})
        assert unknown.status_code == 404


async def test_templates_are_ready_before_somebody_asks(database_url: str) -> None:
    """The first visitor after a start of the server waits for no compiler."""
    environment.cache_clear()

    async def ready() -> bool:
        made = environment()
        wanted = set(made.list_templates(extensions=["html"]))
        return {name for _, name in list(made.cache or ())} >= wanted

    async with served(web_settings(database_url, web_port=0)):
        assert await eventually(ready)


async def test_a_server_that_stops_waits_for_nobody_who_watches(database_url: str) -> None:
    """The stream comes to its end, and is not cut off after the time that answers under way are given."""
    async with (
        served(web_settings(database_url, web_port=0)) as server,
        httpx.AsyncClient(base_url=server.address, timeout=SOON_S) as client,
        client.stream("GET", "/live", params={"page": "/queues"}) as stream,
    ):
        lines = stream.aiter_lines()
        async with asyncio.timeout(SOON_S):
            async for line in lines:
                if line.startswith("data: <"):
                    break
            server.stop()
            assert [line async for line in lines if "event: trouble" in line] == []
            await server.ended()
