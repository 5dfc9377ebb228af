"""A model of Redis: the lists, sets and scripts that dispatch uses, in plain Python.

The scripts are told apart by their digests, so that a server that was flushed must be taught them again. Keys do not expire.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from hashlib import sha1
from importlib.resources import files
from typing import Any, Self, TypeVar

from redis.exceptions import NoScriptError

T = TypeVar("T")
Via = Callable[[Callable[[], Any]], Awaitable[Any]]
"""How a client's command reaches the server and comes back."""


def rank_of(element: str) -> float:
    try:
        return int(element.partition(":")[0])
    except ValueError:
        return float("-inf")


class ModelRedis:
    """One server; each method that takes keys is one command, done at one instant."""

    def __init__(self) -> None:
        self.lists: dict[str, list[str]] = {}
        self.sets: dict[str, set[str]] = {}
        self._known: dict[str, Callable[[list[str], list[str]], Any]] = {}
        self._texts = {self._digest(name): getattr(self, f"_{name}") for name in ("announce", "claim")}
        self._blocked: list[tuple[list[str], asyncio.Future[tuple[str, str]]]] = []

    @staticmethod
    def _digest(name: str) -> str:
        text = files("perdure.stores.redis").joinpath("lua", f"{name}.lua").read_bytes()
        return sha1(text, usedforsecurity=False).hexdigest()

    def client(self, via: Via | None = None) -> "ModelClient":
        return ModelClient(self, via or _at_once)

    def flush(self) -> None:
        self.lists.clear()
        self.sets.clear()

    def forget_scripts(self) -> None:
        self._known.clear()

    def dump(self) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
        return deepcopy(self.lists), deepcopy(self.sets)

    def restore(self, dump: tuple[dict[str, list[str]], dict[str, set[str]]]) -> None:
        self.lists, self.sets = deepcopy(dump)

    def load(self, text: str) -> str:
        digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._known[digest] = self._texts[digest]
        return digest

    def evaluate(self, digest: str, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        if digest not in self._known:
            raise NoScriptError("no matching script")
        answer = self._known[digest](list(keys), [str(one) for one in arguments])
        self._serve()
        return answer

    def pop(self, keys: Sequence[str]) -> tuple[str, str] | None:
        for key in keys:
            if elements := self.lists.get(key):
                element = elements.pop(0)
                if not elements:
                    del self.lists[key]
                return key, element
        return None

    def delete(self, *keys: str) -> int:
        return sum(self.lists.pop(k, None) is not None or self.sets.pop(k, None) is not None for k in keys)

    def wait_for(self, keys: Sequence[str]) -> "asyncio.Future[tuple[str, str]]":
        """The element that the first of these lists to have one gives."""
        future: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        if (found := self.pop(keys)) is not None:
            future.set_result(found)
        else:
            self._blocked.append((list(keys), future))
        return future

    def fail_blocked(self, error: Exception) -> None:
        """The server dies: whoever blocks learns it."""
        waiting, self._blocked = self._blocked, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: who had not heard yet that it blocks learns of the end in another way

    def _serve(self) -> None:
        """Give what came to those who block, the longest first."""
        waiting, self._blocked = self._blocked, []
        for keys, future in waiting:
            if future.done():
                continue
            if (found := self.pop(keys)) is not None:
                future.set_result(found)
            else:
                self._blocked.append((keys, future))

    def _announce(self, keys: list[str], arguments: list[str]) -> int:
        _, most, most_rings, *rest = arguments
        left = iter(rest)
        for lane in range(1, len(keys), 4):
            self.sets.setdefault(keys[0], set()).add(next(left))
            announced = 0
            for band in range(3):
                elements = [next(left) for _ in range(int(next(left)))]
                if elements:
                    self._add(keys[lane + band], elements, int(most))
                announced += len(elements)
            rings = self.lists.setdefault(keys[lane + 3], [])
            rings += ["1"] * (min(announced, int(most_rings)) - len(rings))
            if not rings:
                del self.lists[keys[lane + 3]]
        return 0

    def _add(self, key: str, elements: list[str], most: int) -> None:
        waiting = self.lists.setdefault(key, [])
        elements = elements[: max(0, most - len(waiting))]
        head = rank_of(waiting[0]) if waiting else None
        before = [one for one in elements if head is not None and rank_of(one) < head]
        after = [one for one in elements if head is None or rank_of(one) >= head]
        waiting[:0] = before
        waiting += after

    def _claim(self, keys: list[str], arguments: list[str]) -> list[str | int]:
        limit, process, _ = arguments
        streams = {n - 1: self.lists.get(keys[n], []) for n in range(2, len(keys)) if (n - 2) % 4 < 3}
        found: list[str | int] = []
        taken: list[str] = []
        while len(taken) < int(limit) and any(streams.values()):
            number = min((n for n in streams if streams[n]), key=lambda n: (rank_of(streams[n][0]), n))
            element = streams[number].pop(0)
            found += [number, element]
            taken.append(element)
        self.delete(keys[0])
        if taken:
            self.lists[keys[0]] = taken
            self.sets.setdefault(keys[1], set()).add(process)
        if not any(streams.values()):
            self.delete(*(keys[n] for n in range(5, len(keys), 4)))
        for key in keys[2:]:
            if key in self.lists and not self.lists[key]:
                del self.lists[key]
        return found


async def _at_once(command: Callable[[], Any]) -> Any:
    await asyncio.sleep(0)
    return command()


class ModelClient:
    """As much of the client as the adapters use."""

    def __init__(self, server: ModelRedis, via: Via) -> None:
        self._server = server
        self._via = via

    async def evalsha(self, digest: str, numkeys: int, *rest: Any) -> Any:
        return await self._via(lambda: self._server.evaluate(digest, rest[:numkeys], rest[numkeys:]))

    async def script_load(self, text: str) -> Any:
        return await self._via(lambda: self._server.load(text))

    async def blpop(self, keys: list[str], timeout: float) -> tuple[str, str] | None:
        future = await self._via(lambda: (self._server.wait_for(keys),))
        try:
            async with asyncio.timeout(timeout):
                answer: tuple[str, str] = await future[0]
                return answer
        except TimeoutError:
            return None

    async def smembers(self, key: str) -> Any:
        return await self._via(lambda: sorted(self._server.sets.get(key, ())))

    async def delete(self, *keys: str) -> Any:
        return await self._via(lambda: self._server.delete(*keys))

    async def ping(self) -> bool:
        answer: bool = await self._via(lambda: True)
        return answer

    async def info(self, section: str) -> dict[str, str]:
        answer: dict[str, str] = await self._via(lambda: {"redis_version": "7.4.0"})
        return answer

    async def set(self, key: str, value: str, *, px: int) -> Any:
        """A look whether writes are taken; the key is gone before anybody asks for it."""
        return await self._via(lambda: True)

    async def config_get(self, name: str) -> dict[str, str]:
        answer: dict[str, str] = await self._via(lambda: {name: "noeviction"})
        return answer

    def pipeline(self, *, transaction: bool) -> "ModelPipeline":
        return ModelPipeline(self._server, self._via)

    async def aclose(self) -> None:
        return None


class ModelPipeline:
    """Lengths of lists, asked for together."""

    def __init__(self, server: ModelRedis, via: Via) -> None:
        self._server = server
        self._via = via
        self._keys: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def llen(self, key: str) -> None:
        self._keys.append(key)

    async def execute(self) -> list[int]:
        answer: list[int] = await self._via(
            lambda: [len(self._server.lists.get(key, ())) for key in self._keys]
        )
        return answer
