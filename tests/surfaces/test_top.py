"""The terminal view: what it shows, what its keys do and ask first, and how it bears a database that is away."""

import asyncio
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Footer, Input, Static

from perdure.domain.errors import PastUnknown
from perdure.runtime.wiring import Stores, connected
from perdure.surfaces.terminal.application import Terms, Top
from perdure.surfaces.terminal.question import Question
from perdure.surfaces.terminal.rows import Tab
from perdure.surfaces.terminal.scene import View
from tests.support.command import PROGRAM, Command
from tests.support.servers import PostgresServer
from tests.support.system import System, failure, system_on
from tests.support.web import web_settings

PATIENCE_S = 30.0
OFTEN = Terms(every=timedelta(milliseconds=250), actor="ann")
LEFT_ALONE = b"\x1b[?1049l"
"""What gives a terminal back the screen that was there before."""


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as made:
        yield made


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with connected(web_settings(database_url), redis=False) as opened:
        yield opened


class Seen:
    """A screen that somebody looks at: what stands on it, and a bounded wait for something to stand there."""

    def __init__(self, top: Top, pilot: Pilot[int]) -> None:
        self.top = top
        self.pilot = pilot

    @property
    def table(self) -> DataTable[object]:
        return self.top.screen_stack[0].query_one(DataTable)

    @property
    def rows(self) -> list[list[str]]:
        return [[str(cell) for cell in self.table.get_row_at(at)] for at in range(self.table.row_count)]

    @property
    def first(self) -> list[str]:
        return [row[0] for row in self.rows]

    @property
    def chosen(self) -> str:
        return self.first[self.table.cursor_row]

    def text(self, name: str) -> str:
        shown = self.top.screen_stack[0].query_one(f"#{name}", Static)
        return str(shown.render()) if shown.display else ""

    @property
    def keys(self) -> set[str]:
        return {key.description for key in self.top.screen_stack[0].query_one(Footer).query("FooterKey")}  # type: ignore[attr-defined]

    @property
    def refusals(self) -> list[str]:
        """What an act was answered with in place of being done."""
        return [note.message for note in self.top._notifications if note.severity == "error"]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def filter(self, text: str) -> None:
        """Press `/`, type, and press Enter; the keys of the text itself are the business of the field."""
        await self.press("slash")
        self.top.screen.query_one(Input).value = text
        await self.press("enter")

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await self.pilot.pause(0.02)

    async def asked(self) -> str:
        """The question that stands before everything else."""
        await self.until(lambda: isinstance(self.top.screen, Question))
        assert isinstance(self.top.screen, Question)
        return self.top.screen.asked

    async def answer(self, key: str) -> None:
        await self.press(key)
        await self.until(lambda: not isinstance(self.top.screen, Question))


@asynccontextmanager
async def seen(
    stores: Stores, tab: Tab = Tab.QUEUES, terms: Terms = OFTEN, **view: object
) -> AsyncIterator[Seen]:
    top = Top(stores, View(tab=tab, **view), terms)  # type: ignore[arg-type]
    async with top.run_test(size=(120, 30), notifications=True) as pilot:
        looking = Seen(top, pilot)
        await looking.until(lambda: looking.text("head") != "looking …" or looking.text("away"))
        yield looking
    assert top.fault is None


async def test_the_screen_tells_how_all_is_and_what_each_list_holds(system: System, stores: Stores) -> None:
    await system.worker("w1")
    await system.add_many(3)
    await system.add("app.later", queue="mail", delay=timedelta(hours=1))
    await system.dead("app.dead", message="boom")
    async with seen(stores) as screen:
        assert re.match(r"OK|DEGRADED|CRITICAL", screen.text("head"))
        assert re.search(r"workers \d.* waiting 3 .* dead letters 1", screen.text("head"))
        assert {row[0]: row[2] for row in screen.rows} == {"default": "3", "mail": "0"}
        await screen.press("2")
        await screen.until(lambda: "w1" in screen.first)
        assert "0/10" in {row[2] for row in screen.rows}
        await screen.press("3")
        await screen.until(lambda: len(screen.rows) == 5)
        assert sorted({row[0] for row in screen.rows}) == ["available", "discarded", "scheduled"]
        await screen.press("4")
        await screen.until(lambda: [row[:2] for row in screen.rows] == [["1", "ValueError: boom"]])
        await screen.press("5")
        await screen.until(
            lambda: screen.rows == [] and screen.table.ordered_columns[0].label.plain == "STATE"
        )
        await screen.press("1")
        await screen.until(lambda: screen.first == ["default", "mail"])
        await screen.press("q")
        await screen.until(lambda: screen.top.return_value == 0)


async def test_a_queue_is_paused_and_resumed_once_somebody_agrees(system: System, stores: Stores) -> None:
    await system.add(queue="a")
    await system.add(queue="b")
    async with seen(stores) as screen:
        await screen.press("down", "p")
        assert "Pause queue b?" in await screen.asked()
        await screen.press("enter")
        await screen.answer("n")
        assert not (await stores.read.queues("b"))[0].paused
        await screen.press("p")
        await screen.asked()
        await screen.answer("y")
        await screen.until(lambda: [row[1] for row in screen.rows] == ["open", "paused"])
        assert screen.chosen == "b"
        queue = (await stores.read.queues("b"))[0]
        assert (queue.paused, queue.paused_by) == (True, "ann")
        await screen.press("p")
        assert "Resume queue b?" in await screen.asked()
        await screen.answer("y")
        await screen.until(lambda: [row[1] for row in screen.rows] == ["open", "open"])


async def test_a_worker_is_cordoned_uncordoned_and_drained_once_somebody_agrees(
    system: System, stores: Stores
) -> None:
    worker = await system.worker("w1")
    async with seen(stores, Tab.WORKERS) as screen:
        for verb, state in (("Cordon", "cordoned"), ("Uncordon", "active")):
            await screen.press("c")
            assert f"{verb} worker w1?" in await screen.asked()
            await screen.answer("y")
            await screen.until(lambda state=state: screen.rows[0][1].startswith(state))  # type: ignore[misc]
        await screen.press("d")
        await screen.pilot.pause()
        assert not isinstance(screen.top.screen, Question), "what ends a worker needs Shift"
        await screen.press("D")
        assert "Drain worker w1?" in await screen.asked()
        assert (await stores.read.worker(worker)).worker.state == "active"
        await screen.answer("y")
        await screen.until(lambda: screen.rows[0][1].startswith("draining"))
        await screen.press("c")
        await screen.asked()
        await screen.answer("y")
        await screen.until(lambda: screen.refusals)
        assert "w1" in screen.refusals[0]
    events = (await stores.activity.events(limit=10)).events
    done = [event.event for event in events if (event.actor, event.reason) == ("ann", "perdure top")]
    assert sorted(done) == ["worker_cordoned", "worker_draining", "worker_uncordoned"]


async def test_a_filter_searches_jobs_and_dead_letters_and_picks_rows_elsewhere(
    system: System, stores: Stores
) -> None:
    await system.add("app.mail", queue="mail")
    await system.add("app.work")
    await system.run(failure("boom"))
    async with seen(stores) as screen:
        await screen.filter("mail")
        await screen.until(lambda: screen.first == ["mail"])
        await screen.press("escape")
        await screen.until(lambda: screen.first == ["default", "mail"])
        await screen.press("3")
        await screen.filter("state:failed")
        await screen.until(lambda: [row[:2] for row in screen.rows] == [["retryable", "app.work"]])
        await screen.filter("colour:red")
        await screen.until(lambda: "colour" in screen.text("note"))
        assert screen.rows == []
        await screen.press("escape")
        await screen.until(lambda: len(screen.rows) == 2 and not screen.text("note"))


async def test_what_was_is_shown_and_cannot_be_changed(system: System, stores: Stores) -> None:
    await system.add(queue="a")
    await system.past.mark()
    then: datetime = await system.sql.fetchval("SELECT max(at) FROM perdure.moments")
    await system.add(queue="b")
    async with seen(stores, as_of=then) as screen:
        await screen.until(lambda: screen.first == ["a"])
        assert f"as of {then:%Y-%m-%d}" in screen.text("head")
        assert "Pause/resume" not in screen.keys
        await screen.press("p")
        await screen.pilot.pause()
        assert not isinstance(screen.top.screen, Question)
    async with seen(stores, terms=Terms(every=OFTEN.every, actor="ann", read_only=True)) as screen:
        await screen.until(lambda: screen.first == ["a", "b"])
        await screen.press("p", "2", "c", "D")
        await screen.pilot.pause()
        assert not isinstance(screen.top.screen, Question)


async def test_keys_go_back_in_time_and_to_the_present_again(system: System, stores: Stores) -> None:
    """A moment that nobody remembers is told, and what was shown stays."""
    await system.add(queue="a")
    await system.past.mark()
    await system.sql.execute("UPDATE perdure.moments SET at = now() - interval '62 s'")
    await system.add(queue="b")
    async with seen(stores) as screen:
        await screen.until(lambda: screen.first == ["a", "b"])
        await screen.press("left_square_bracket")
        await screen.until(lambda: screen.first == ["a"])
        assert "as of" in screen.text("head")
        assert "Pause/resume" not in screen.keys
        await screen.press("left_curly_bracket")
        await screen.until(lambda: screen.refusals)
        assert "before the earliest moment" in screen.refusals[0]
        assert screen.first == ["a"]
        await screen.press("right_square_bracket")
        await screen.until(lambda: screen.first == ["a", "b"])
        assert "as of" not in screen.text("head")
        await system.add(queue="c")
        await screen.until(lambda: screen.first == ["a", "b", "c"])


async def test_the_cursor_stays_on_its_thing_and_texts_of_others_are_only_text(
    system: System, stores: Stores
) -> None:
    await system.add("[red]x[/red]\x1b[2J\u202e", queue="m")
    await system.add(queue="z")
    async with seen(stores) as screen:
        await screen.press("down")
        assert screen.chosen == "z"
        await system.add(queue="a")
        await screen.until(lambda: screen.first == ["a", "m", "z"])
        assert screen.chosen == "z"
        await screen.press("3")
        await screen.until(lambda: {row[0] for row in screen.rows} == {"available"})
        assert "[red]x[/red]\\x1b[2J\\u202e" in {row[1] for row in screen.rows}


async def test_a_database_that_goes_away_is_told_and_its_return_too(private_postgres: PostgresServer) -> None:
    async with (
        system_on(private_postgres.url) as system,
        connected(web_settings(private_postgres.url), redis=False) as stores,
    ):
        await system.add(queue="a")
        async with seen(stores) as screen:
            await screen.until(lambda: screen.first == ["a"])
            await asyncio.to_thread(private_postgres.stop, immediate=True)
            await screen.until(lambda: "the database is away" in screen.text("away"))
            assert screen.first == ["a"]
            await screen.press("p")
            await screen.asked()
            await screen.answer("y")
            await screen.until(lambda: screen.refusals)
            await asyncio.to_thread(private_postgres.start)
            await screen.until(lambda: not screen.text("away"))


async def test_a_moment_that_nobody_remembers_ends_it_with_the_reason(stores: Stores) -> None:
    top = Top(stores, View(as_of=datetime.now(UTC) - timedelta(days=1)), OFTEN)
    async with top.run_test() as pilot:
        await Seen(top, pilot).until(lambda: top.return_value is not None)
    assert isinstance(top.fault, PastUnknown)


@pytest.mark.parametrize(
    ("ends", "code"),
    [(b"\x03", 130), (signal.SIGTERM, 130)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_terminal_is_left_as_it_was(perdure: Command, ends: bytes | signal.Signals, code: int) -> None:
    assert perdure("job", "enqueue", "app.mail", "--queue", "mail").code == 0
    ours, theirs = pty.openpty()
    variables = {**os.environ, **perdure.variables, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [*PROGRAM, "top"], stdin=theirs, stdout=theirs, stderr=theirs, env=variables, cwd=perdure.folder
    )
    os.close(theirs)
    try:
        read_until(ours, b"mail")
        if isinstance(ends, bytes):
            os.write(ours, ends)
        else:
            process.send_signal(ends)
        said = read_until(ours, LEFT_ALONE)
        assert process.wait(PATIENCE_S) == code
    finally:
        process.kill()
    os.close(ours)
    assert b"Traceback" not in said


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal is told, up to these bytes."""
    said, until = b"", time.monotonic() + PATIENCE_S
    while wanted not in said:
        assert time.monotonic() < until, said[-2_000:]
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                said += os.read(terminal, 65_536)
            except OSError:  # nobody holds the other end any more
                break
    assert wanted in said, said[-2_000:]
    return said


def test_without_a_terminal_it_says_what_to_use_instead(perdure: Command) -> None:
    ended = perdure("top")
    assert ended.code == 2
    assert "stdin" in ended.err
    assert "perdure status --watch" in ended.err
    assert perdure("top", "--every", "10ms").code == 2
