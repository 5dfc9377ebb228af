"""Where the next claim may begin to look, and in which streams: hints, which a full pass corrects."""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

import asyncpg

Stream = tuple[int, int]
"""Lane and band."""

FIRST_RANK, ENDLESS = -(2**63), 2**63 - 1
FULL_PASS_S = 1.0
SHORTEST_BETWEEN_FULL_PASSES_S, LONGEST_BETWEEN_FULL_PASSES_S = 0.1, 60.0
FULL_PASS_SHARE = 20
"""The next full pass comes after so many times as long as each of the last two took longer than other claims, at the soonest."""
AROUND_S = 0.25
"""So long it is believed of many streams which are empty."""


class Watermarks:
    """Where the last claim of each stream (lane and band) ended: a hint for where the next scan may begin.

    The doorbell tells of rows that appear below one. What it does not tell of is found by a full pass: after an empty claim, at
    least every second and, when the bell rang without telling, at most ten times a second. While a horizon is pinned, a full pass walks
    over every dead row: what it takes longer than other claims is a twentieth of the time at most, and it is done every minute at least.

    Of many streams most may be empty, or begin behind those that a claim takes from. Which hold jobs is known for a quarter of a second
    after a look around, and longer for none: a job that no ring tells of may be the most urgent one of all.
    """

    def __init__(self) -> None:
        self._floors: dict[Stream, int] = {}
        self._full_at = self._pause = self._excess = 0.0
        self._usual: float | None = None
        self._rung = self._found_none = self._stirred = False
        self._is_full = False
        self.lowered = 0
        self._told: dict[Stream, int] = {}
        self._empty: set[Stream] = set()
        self._around_at = 0.0
        self._spread = 1

    def ring(self) -> None:
        self._rung = True

    def floors(self, streams: Sequence[Stream], now: float) -> Mapping[Stream, int]:
        """The rank to begin at for each stream; the first of all when a full pass is due."""
        wait = 0.0 if self._found_none else SHORTEST_BETWEEN_FULL_PASSES_S if self._rung else FULL_PASS_S
        self._is_full = now - self._full_at >= max(wait, self._pause)
        if self._is_full:
            self._full_at, self._rung = now, False
            return dict.fromkeys(streams, FIRST_RANK)
        return {stream: self._floors.get(stream, FIRST_RANK) for stream in streams}

    @property
    def quiet(self) -> bool:
        """Whether the last look found nothing, and nothing was heard since."""
        return self._found_none and not self._rung and not self._stirred

    def lower(self, lane: int, band: int, rank: int) -> None:
        """Begin no later than at this rank, at which a job has become available."""
        stream = lane, band
        self._floors[stream] = min(rank, self._floors.get(stream, FIRST_RANK))
        self._told[stream] = min(rank, self._told.get(stream, rank))
        self._empty.discard(stream)
        self._stirred = True
        self.lowered += 1

    def occupied(self, streams: Sequence[Stream], now: float) -> Mapping[Stream, int]:
        """The rank to begin at for each stream that may hold jobs, as far as that is known; nothing when it is time to look around."""
        if self._found_none or self._rung or now - self._around_at >= AROUND_S:
            return {}
        self._is_full = False
        floors, empty = self._floors, self._empty
        return {stream: floors.get(stream, FIRST_RANK) for stream in streams if stream not in empty}

    def look_around(self) -> None:
        """Be told that the streams are asked for their first jobs from now on."""
        self._told.clear()

    def looked_around(
        self, streams: Sequence[Stream], heads: Sequence[asyncpg.Record], now: float
    ) -> Mapping[Stream, int]:
        """The rank to begin at for each stream that holds jobs: at its first, or at one that was told of meanwhile."""
        found = {(row["lane"], row["band"]): row["rank"] for row in heads}
        asked = set(streams)
        for stream, rank in self._told.items():
            if stream in asked:
                found[stream] = min(rank, found.get(stream, rank))
        self._empty = asked - found.keys()
        self._around_at = now
        self._floors.update(found)
        return found

    def nearest(self, floors: Mapping[Stream, int]) -> tuple[Mapping[Stream, int], int]:
        """The streams that begin first, some more than twice as many as the last claim took from, and the rank at which another begins."""
        count = 2 * self._spread + 2
        if count >= len(floors):
            return floors, ENDLESS
        order = sorted(floors.items(), key=itemgetter(1))
        return dict(order[:count]), order[count][1]

    def in_steps(self, floors: Mapping[Stream, int]) -> Iterator[tuple[Mapping[Stream, int], int]]:
        """The nearest streams, and all of them for when those do not hold enough; nothing where there is none."""
        nearest, below = self.nearest(floors)
        if nearest:
            yield nearest, below
        if below < ENDLESS:
            yield floors, ENDLESS

    def looked(self, rows: Sequence[asyncpg.Record], lowered: int, took: float) -> None:
        """Begin where these rows end, unless it was lowered after `lowered` was read, while they were looked for."""
        self._found_none, self._stirred = not rows, self.lowered != lowered
        if not self._is_full:
            self._usual = took
        elif self._usual is not None:
            before, self._excess = self._excess, max(0.0, took - self._usual)
            # The shorter of two: one that a busy machine held up says nothing of dead rows.
            self._pause = min(LONGEST_BETWEEN_FULL_PASSES_S, FULL_PASS_SHARE * min(before, self._excess))
        last = {(row["lane"], row["band"]): row["rank"] for row in rows}
        self._spread = len(last)
        if self.lowered == lowered:
            self._floors.update(last)

    def failed(self) -> None:
        """The claim may have been committed, or not: look at everything next."""
        self._full_at = self._pause = self._excess = self._around_at = 0.0
