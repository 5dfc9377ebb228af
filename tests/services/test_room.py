"""When results cannot be settled, nothing new is claimed; one that cannot be settled holds up no other."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

from perdure.domain.errors import DatabaseUnavailable, InvalidInput, Locked
from perdure.domain.lease import Lease
from perdure.domain.settlement import Completed, Interrupted, Outcome, Settlement
from perdure.ports import Settled
from perdure.services.completion import Bounds, Completion
from tests.support.waiting import eventually

SOON_S = 20


class Door:
    """Stands where the store is: settles while it is open, but no more at once than fit, and none that it refuses."""

    def __init__(self, *, opened: bool = False, fit: int = 1000) -> None:
        self.open = opened
        self.fit = fit
        self.refused: set[UUID] = set()
        self.locked: set[UUID] = set()
        self.unsettleable: set[UUID] = set()
        self.breaks_after: set[UUID] = set()
        self.settled: list[UUID] = []
        self.sorts: list[set[Outcome]] = []

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        if not self.open or len(settlements) > self.fit:
            raise DatabaseUnavailable("no connection is left")
        tokens = {one.token for one in settlements}
        if self.locked & tokens:
            raise Locked("what is to be changed is locked")
        if self.unsettleable & {one.token for one in settlements if one.outcome is Outcome.COMPLETED}:
            raise InvalidInput("outcome", "too large")
        if self.breaks_after & tokens and self.settled:
            self.breaks_after.clear()
            raise DatabaseUnavailable("the connection is lost")
        if self.refused & tokens:
            raise RuntimeError("permission denied for a table of somebody's trigger")
        self.sorts.append({one.outcome for one in settlements})
        self.settled += [one.token for one in settlements]
        return Settled(accepted=frozenset(self.settled), released=())


def lease() -> Lease:
    return Lease(uuid4(), uuid4(), 1, 1, 1, 0, 0, 0, "{}", 3, 3, None, None, 0, 0, kind="app.work")


def completion_with(door: Door) -> Completion:
    bounds = Bounds(unsettled_max=10_000, crash_limit=3, interruption_limit=3)
    return Completion(door, door, uuid4(), bounds=bounds)  # type: ignore[arg-type]


async def test_a_result_that_is_refused_again_and_again_holds_up_no_other_and_no_end() -> None:
    """A drain must come to its end, too; the job of that result runs again."""
    door = Door(opened=True)
    completion, leases = completion_with(door), [lease() for _ in range(20)]
    door.refused = {leases[0].token, leases[7].token}
    for one in leases:
        completion.add(one, Completed(result=None), 100.0, 100.1)
    running = asyncio.create_task(completion.run())

    async def others_settled() -> bool:
        return set(door.settled) == {one.token for one in leases} - door.refused

    assert await eventually(others_settled, within_s=SOON_S)
    assert not completion.full
    assert completion.tokens == door.refused
    mended = door.refused = {leases[7].token}
    completion.add(late := lease(), Completed(result=None), 100.0, 100.1)
    completion.close()
    await asyncio.wait_for(running, SOON_S)
    assert {leases[0].token, late.token} <= set(door.settled)
    assert not mended & set(door.settled)


async def test_a_result_that_waits_for_a_transaction_of_others_holds_up_no_other_and_no_claim() -> None:
    """It is tried for as long as that transaction stands open, also while the process drains."""
    door = Door(opened=True)
    completion, leases = completion_with(door), [lease() for _ in range(40)]
    door.locked = {leases[0].token, leases[33].token}
    for one in leases:
        completion.add(one, Completed(result=None), 100.0, 100.1)
    running = asyncio.create_task(completion.run())

    async def others_settled() -> bool:
        return set(door.settled) == {one.token for one in leases} - door.locked

    assert await eventually(others_settled, within_s=SOON_S)
    assert not completion.full
    completion.add(late := lease(), Completed(result=None), 100.0, 100.1)
    completion.close()
    assert await eventually(lambda: told(late.token in door.settled), within_s=SOON_S)
    assert completion.tokens == door.locked
    door.locked = set()
    await asyncio.wait_for(running, SOON_S)
    assert set(door.settled) == {one.token for one in (*leases, late)}


async def told(value: bool) -> bool:
    return value


async def test_what_a_round_has_stored_before_its_connection_was_lost_is_not_handed_in_again() -> None:
    """An outcome that can never be stored has failed for good in its place: handed in as it was, it would look stale."""
    door = Door(opened=True)
    completion, leases = completion_with(door), [lease() for _ in range(4)]
    door.unsettleable, door.breaks_after = {leases[0].token}, {leases[3].token}
    for one in leases:
        completion.add(one, Completed(result=None), 100.0, 100.1)
    completion.close()
    await asyncio.wait_for(completion.run(), SOON_S)
    assert sorted(door.settled) == sorted(one.token for one in leases)
    assert len(door.settled) == len(set(door.settled))


async def test_results_that_do_not_fit_into_one_message_go_in_smaller_ones() -> None:
    """A server ends the connection at a message that is too large, which looks as if it were away."""
    door = Door(opened=True, fit=3)
    completion, leases = completion_with(door), [lease() for _ in range(50)]
    for one in leases:
        completion.add(one, Completed(result=None), 100.0, 100.1)
    completion.close()
    await asyncio.wait_for(completion.run(), SOON_S)
    assert sorted(door.settled) == sorted(one.token for one in leases)


async def test_successes_and_other_endings_take_turns_and_none_is_handed_in_twice() -> None:
    """The store takes them by themselves: when one call is lost, what the other call has stored is known."""
    door = Door(opened=True)
    completion, leases = completion_with(door), [lease() for _ in range(9)]
    for number, one in enumerate(leases):
        ending = Interrupted(cause="deploy") if number % 3 == 0 else Completed(result=None)
        completion.add(one, ending, 100.0, 100.1)
    completion.close()
    await asyncio.wait_for(completion.run(), SOON_S)
    assert len(door.sorts) == 2
    assert all(len(sort) == 1 for sort in door.sorts)
    assert sorted(door.settled) == sorted(one.token for one in leases)


async def test_one_result_that_cannot_be_settled_holds_back_all_claims_until_it_is() -> None:
    """A process that claims with one connection and has lost the other would keep what others could do."""
    door = Door()
    completion, ended = completion_with(door), lease()
    running = asyncio.create_task(completion.run())
    await asyncio.wait_for(completion.room(), SOON_S)

    completion.add(ended, Completed(result=None), 100.0, 100.1)

    async def held_back() -> bool:
        return completion.full

    assert await eventually(held_back, within_s=SOON_S)
    claiming = asyncio.create_task(completion.room())
    assert not (await asyncio.wait({claiming}, timeout=0.3))[0]
    door.open = True
    await asyncio.wait_for(claiming, SOON_S)
    assert door.settled == [ended.token]
    assert not completion.full
    completion.close()
    await asyncio.wait_for(running, SOON_S)
