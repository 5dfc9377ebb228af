"""Dispatch through Redis: its lists say what may start next, PostgreSQL confirms it and finds what the lists lack."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from time import monotonic
from typing import Protocol
from uuid import UUID

from redis.asyncio import Redis

from perdure.domain.lease import Lease
from perdure.domain.rank import Band
from perdure.domain.worker import WorkerId
from perdure.ports import Claimer, Dispatch, Place, Scope
from perdure.stores.redis.keys import ANNOUNCED, Keys
from perdure.stores.redis.link import Link
from perdure.stores.redis.scripts import script

FULL_PASS_S = 1.0
STALE_ROUNDS = 3
LIST_TTL_S = 3600
LIST_MAX = 100_000
RINGS_MAX = 64
ANNOUNCED_AT_ONCE = 5_000
KEYS_PER_LANE = len(ANNOUNCED) + 1
RANKS = range(-(2**63), 2**63)


class Confirmation(Protocol):
    """Leases what another proposes."""

    async def confirm(self, claimer: Claimer, places: Sequence[Place]) -> Sequence[Lease]:
        """Lease exactly these jobs, of those still available."""
        ...

    async def lanes(self, scope: Scope) -> Sequence[int]:
        """The lanes that a scope may take from."""
        ...


class DecidingDispatch(Dispatch, Confirmation, Protocol):
    """A dispatch that decides by itself and can be asked to confirm."""


class RedisDispatch:
    """The port `Dispatch` on Redis, in front of the one on PostgreSQL.

    Every second one claim of a scope goes to PostgreSQL, and so does every claim for which Redis has nothing: what was
    never announced, or was lost with Redis, starts nevertheless. While Redis is away, all claims do.
    """

    def __init__(self, link: Link, deciding: DecidingDispatch, *, schema: str) -> None:
        self._link = link
        self._deciding = deciding
        self._keys = Keys(schema)
        self._passed: dict[Scope, float] = {}
        self._lanes: dict[Scope, Sequence[int]] = {}
        self._alone = False

    @classmethod
    async def open(cls, redis_url: str, deciding: DecidingDispatch, *, schema: str) -> "RedisDispatch":
        """Raises RedisUnavailable for a server that must not be used; one that does not answer is used when it does."""
        link = Link(redis_url)
        await link.open()
        return cls(link, deciding, schema=schema)

    async def close(self) -> None:
        """Let go of the connections to Redis; the dispatch on PostgreSQL is its owner's."""
        await self._link.close()

    @property
    def failures(self) -> int:
        """How often Redis has failed."""
        return self._link.failures

    async def announce(self, places: Sequence[Place]) -> None:
        suspects = [place for place in places if place.band not in ANNOUNCED]
        others = [place for place in places if place.band in ANNOUNCED]
        if others and not await self._announced(others):
            suspects = list(places)
        await self._deciding.announce(suspects)

    async def _announced(self, places: Sequence[Place]) -> bool:
        for keys, arguments in announcements(self._keys, places):
            if not self._link.usable:
                return False
            await self._link.ask(partial(script("announce").run, keys=keys, arguments=arguments))
        return self._link.usable

    async def claim(self, claimer: Claimer, scope: Scope, *, limit: int) -> Sequence[Lease]:
        self._alone = claimer.isolated
        if claimer.isolated or limit < 1 or not self._link.usable:
            return await self._deciding.claim(claimer, scope, limit=limit)
        lanes = self._lanes[scope] = await self._deciding.lanes(scope)
        leases: list[Lease] = []
        if lanes and monotonic() - self._passed.get(scope, -FULL_PASS_S) < FULL_PASS_S:
            for _ in range(STALE_ROUNDS):
                places, more = await self._take(claimer, lanes, limit - len(leases))
                leases += await self._deciding.confirm(claimer, places) if places else ()
                if leases and (len(leases) >= limit or not more):
                    return leases
                if not more:
                    break
        self._passed[scope] = monotonic()
        return [*leases, *await self._deciding.claim(claimer, scope, limit=limit - len(leases))]

    async def _take(self, claimer: Claimer, lanes: Sequence[int], limit: int) -> tuple[list[Place], bool]:
        """What Redis proposes, and whether it may have more."""
        keys = [
            self._keys.processing(claimer.worker_id, claimer.process),
            self._keys.processes(claimer.worker_id),
            *(key for lane in lanes for key in lane_keys(self._keys, lane)),
        ]
        arguments = [limit, claimer.process, LIST_TTL_S]
        found = await self._link.ask(lambda redis: script("claim").run(redis, keys, arguments)) or []
        return list(proposals(found, lanes)), len(found) >= 2 * limit

    async def wait(self, timeout: timedelta) -> bool:
        lanes = sorted({lane for lanes in self._lanes.values() for lane in lanes})
        if lanes and not self._alone and self._link.usable:
            rang = await self._link.ring_of(self._keys.doorbells(lanes), max(timeout.total_seconds(), 0.001))
            if rang is not None:
                return rang
        return await self._deciding.wait(timeout)

    async def release(self, worker_id: WorkerId) -> None:
        processes = self._keys.processes(worker_id)

        async def forget(redis: Redis) -> None:
            numbers = await redis.smembers(processes)
            await redis.delete(
                processes, *(self._keys.processing(worker_id, int(number)) for number in numbers)
            )

        if self._link.usable:
            await self._link.ask(forget)
        await self._deciding.release(worker_id)

    async def depths(self) -> Mapping[Band, int]:
        async def lengths(redis: Redis) -> Mapping[Band, int]:
            lanes = [int(lane) for lane in await redis.smembers(self._keys.lanes)]
            async with redis.pipeline(transaction=False) as pipeline:
                for lane in lanes:
                    for band in ANNOUNCED:
                        pipeline.llen(self._keys.waiting(lane, band))
                counts = await pipeline.execute()
            width = len(ANNOUNCED)
            return {band: sum(counts[n::width]) for n, band in enumerate(ANNOUNCED)}

        counted = await self._link.ask(lengths) if self._link.usable else None
        return await self._deciding.depths() if counted is None else counted


def lane_keys(keys: Keys, lane: int) -> list[str]:
    """The keys of a lane in the order in which the scripts expect them."""
    return [*(keys.waiting(lane, band) for band in ANNOUNCED), keys.doorbell(lane)]


def announcements(keys: Keys, places: Sequence[Place]) -> Iterator[tuple[list[str], list[str | int]]]:
    """Keys and arguments of the script `announce` for these places, best ranks first, in calls of bounded size."""
    remaining = iter(sorted(places, key=lambda place: (place.rank, place.job_id)))
    while part := list(islice(remaining, ANNOUNCED_AT_ONCE)):
        lanes: dict[int, dict[int, list[str]]] = defaultdict(lambda: {band: [] for band in ANNOUNCED})
        for place in part:
            lanes[place.lane][place.band].append(f"{place.rank}:{place.job_id}")
        arguments: list[str | int] = [LIST_TTL_S, LIST_MAX, RINGS_MAX]
        for lane, bands in lanes.items():
            arguments.append(lane)
            for elements in bands.values():
                arguments += [len(elements), *elements]
        yield [keys.lanes, *(key for lane in lanes for key in lane_keys(keys, lane))], arguments


def proposals(found: Sequence[str | int], lanes: Sequence[int]) -> Iterator[Place]:
    """The places among what the script `claim` gave; what is none was written by a stranger and is passed over."""
    pairs = iter(found)
    for number, element in zip(pairs, pairs, strict=True):
        lane, band = divmod(int(number) - 1, KEYS_PER_LANE)
        rank, _, job_id = str(element).partition(":")
        try:
            place = Place(lanes[lane], band, int(rank), UUID(job_id))
        except ValueError:
            continue
        if place.rank in RANKS:
            yield place
