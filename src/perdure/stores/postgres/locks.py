"""Getting past what others have locked, on sessions whose waits are bounded (`connections.BOUNDED_WAITS`)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from perdure.domain.errors import Locked

Item = TypeVar("Item")
Done = TypeVar("Done")


async def past_locks(
    act: Callable[[Sequence[Item]], Awaitable[Done]], items: Sequence[Item]
) -> tuple[list[Done], int]:
    """Act on all items but those that wait for a transaction which somebody holds open: what was done, and how many are left.

    `act` does all that it is given or nothing. Which items wait, only a wait can show: where it takes too long, each half is tried
    by itself. Raises what `act` raises for any other reason.
    """
    try:
        return [await act(items)], 0
    except Locked:
        pass
    if len(items) == 1:
        return [], 1
    half = len(items) // 2
    first, left = await past_locks(act, items[:half])
    second, more = await past_locks(act, items[half:])
    return first + second, left + more
