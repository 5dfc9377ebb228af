"""When results cannot be settled, nothing new is claimed."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

from perdure.domain.errors import DatabaseUnavailable
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Settlement
from perdure.ports import Settled
from perdure.services.completion import Bounds, Completion
from tests.support.waiting import eventually

SOON_S = 20


class Door:
    """Stands where the store is: settles while it is open."""

    def __init__(self) -> None:
        self.open = False
        self.settled: list[UUID] = []

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        if not self.open:
            raise DatabaseUnavailable("no connection is left")
        self.settled += [one.token for one in settlements]
        return Settled(accepted=frozenset(self.settled), released=())


async def test_one_result_that_cannot_be_settled_holds_back_all_claims_until_it_is() -> None:
    """A process that claims with one connection and has lost the other would keep what others could do."""
    door = Door()
    bounds = Bounds(unsettled_max=10_000, crash_limit=3, interruption_limit=3)
    completion = Completion(door, door, uuid4(), bounds=bounds)  # type: ignore[arg-type]
    running = asyncio.create_task(completion.run())
    lease = Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 3, None, None, 0, 0, kind="app.work")
    await asyncio.wait_for(completion.room(), SOON_S)

    completion.add(lease, Completed(result=None), 100.0, 100.1)

    async def held_back() -> bool:
        return completion.full

    assert await eventually(held_back, within_s=SOON_S)
    claiming = asyncio.create_task(completion.room())
    assert not (await asyncio.wait({claiming}, timeout=0.3))[0]
    door.open = True
    await asyncio.wait_for(claiming, SOON_S)
    assert door.settled == [lease.token]
    assert not completion.full
    completion.close()
    await asyncio.wait_for(running, SOON_S)
