"""A producer's guard: told in heaps of what was stored, at once while it looks, so that it is never behind when it tells."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from perdure.domain.errors import DatabaseUnavailable
from perdure.runtime.lookout import HEAP, Lookout


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
