"""A producer's guard: told in heaps of what was stored, at once while it looks, so that it is never behind when it tells."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from perdure.domain.errors import DatabaseUnavailable, RollbackDetected
from perdure.domain.ids import Ids
from perdure.domain.lineage import Sighting
from perdure.runtime.lookout import HEAP, Lookout

SOUND = Sighting(
    installation=uuid4(), epoch=1, system=1, timeline=1, flushed=1, stretch=uuid4(), mark=1, reached=1
)


class Away:
    """A database that lets a look wait and then goes away."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def look(self, *_: Any, **__: Any) -> Any:
        await self.gone.wait()
        raise DatabaseUnavailable("it went away")


@pytest.fixture
def away() -> Away:
    return Away()


@pytest.fixture
def lookout(away: Away) -> Lookout:
    """One that is not to look yet."""
    made = Lookout(away)  # type: ignore[arg-type] # nothing else is asked for
    made._next = float("inf")
    return made


async def test_what_was_stored_is_handed_over_with_the_next_look_and_at_once_during_it(
    lookout: Lookout, away: Away
) -> None:
    known, first, second = lookout._guard.enqueued, uuid4(), uuid4()
    lookout.note((first,))
    assert known.all() == []
    lookout._next = 0.0
    lookout.note(())
    await asyncio.sleep(0)
    assert known.all() == [first]
    lookout.note((second,))
    assert known.all() == [first, second]
    away.gone.set()
    await lookout.close()


async def test_a_heap_has_a_bound(lookout: Lookout) -> None:
    ids = [uuid4() for _ in range(HEAP)]
    lookout.note(ids[:-1])
    assert lookout._guard.enqueued.all() == []
    lookout.note(ids[-1:])
    assert lookout._guard.enqueued.all() == ids
    assert lookout._stored == []


async def test_a_large_call_is_handed_over_as_it_is_after_what_came_before(lookout: Lookout) -> None:
    first, many = uuid4(), Ids(uuid4().bytes for _ in range(HEAP))
    lookout.note((first,))
    lookout.note(many)
    assert lookout._guard.enqueued.all() == [first, *many]


async def test_who_makes_large_calls_alone_looks_too_when_it_is_time(lookout: Lookout, away: Away) -> None:
    lookout._next = 0.0
    lookout.note(Ids(uuid4().bytes for _ in range(HEAP)))
    assert lookout._looking is not None
    away.gone.set()
    await lookout.close()


class Broken:
    """A database that went back, and whose answer to what it forgot does not come."""

    def __init__(self) -> None:
        self.seen, self.asked, self.told = SOUND, asyncio.Event(), asyncio.Event()

    async def look(self, *_: Any, **__: Any) -> Sighting:
        return self.seen

    async def tell_forgotten(self, *_: Any, **__: Any) -> int:
        self.asked.set()
        await self.told.wait()
        return 0


async def test_a_break_is_known_from_the_moment_on_in_which_the_guard_finds_it() -> None:
    """Not only once it was told what is missing, which may take a minute in a database that hangs."""
    database = Broken()
    lookout = Lookout(database)  # type: ignore[arg-type] # nothing else is asked for
    await lookout.begin()
    database.seen, lookout._next = replace(SOUND, halted="it went back"), 0.0
    lookout.note((uuid4(),))
    async with asyncio.timeout(10):
        await database.asked.wait()
    assert isinstance(lookout.broken, RollbackDetected)
    await lookout.close()
