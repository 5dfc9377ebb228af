"""The ways between processes and servers: slow, broken at times, and sometimes silent about what they have done."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisLost

from perdure.domain.errors import DatabaseUnavailable
from tests.simulation.loop import PROCESS, Process, SimulatedLoop
from tests.support.model_redis import ModelRedis
from tests.support.model_store import ModelStore

T = TypeVar("T")
Callback = Callable[..., Any]
WAIT_FOR_REDIS_S = 1.0


@dataclass(slots=True)
class Weather:
    """How bad the network is at the moment, as chances per message."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    slow: float = 0.0
    ring_lost: float = 0.0
    ring_doubled: float = 0.0


@dataclass(slots=True, eq=False)
class Host:
    """A machine with its processes, and whether it is cut off."""

    name: str
    processes: list[Process] = field(default_factory=list)
    cut_from_postgres: bool = False
    postgres_again_at: float = 0.0
    cut_from_redis: bool = False
    clock_off_s: float = 0.0


class Network:
    """Delays, and what hangs until a cut is mended."""

    def __init__(self, loop: SimulatedLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.weather = Weather()
        self.servers = copy_context()
        self.servers.run(PROCESS.set, loop.world)
        self.hanging: list[Callable[[], None]] = []

    def delay(self) -> float:
        draw = self.random.random()
        if self.weather.slow and self.random.random() < self.weather.slow:
            return draw * 0.5
        return 0.0002 + draw * draw * 0.004

    def later(self, callback: Callback, *args: Any, context: Context | None = None) -> None:
        self.loop.call_later(self.delay(), callback, *args, context=context or self.servers)

    def happens(self, chance: float) -> bool:
        return chance > 0 and self.random.random() < chance

    def mend(self) -> None:
        """Try again what was held up; the packets of a connection that is still wanted get through now."""
        held, self.hanging = self.hanging, []
        for again in held:
            again()


class Postgres:
    """The database server: the model of the store, up or down, and who listens."""

    def __init__(self, network: Network, store: ModelStore) -> None:
        self.network = network
        self.store = store
        self.up = True
        self.frozen = False
        self.generation = 0
        self.listening: list[Line] = []
        self.in_flight: set[Line] = set()

    def crash(self, unflushed_s: float) -> int:
        """Die at once: connections break, and claims not yet on disk are lost; how many were."""
        self.up = False
        self.frozen = False
        self.break_connections()
        return self.store.crash(self.store.now - int(unflushed_s * 1e6))

    def restart(self) -> None:
        self.up = True
        self.network.mend()

    def thaw(self) -> None:
        self.frozen = False
        self.network.mend()

    def break_connections(self) -> None:
        self.generation += 1
        self.listening.clear()
        for line in sorted(self.in_flight, key=lambda line: line.number):
            line.lose("the connection broke")

    def notify(self, channel: str, payload: str) -> None:
        weather = self.network.weather
        for line in list(self.listening):
            for _ in range(1 + self.network.happens(weather.ring_doubled)):
                if not self.network.happens(weather.ring_lost) and not line.host.cut_from_postgres:
                    line.hear(channel, payload)


class Line:
    """One connection of one process to PostgreSQL: one call at a time, opened when it is needed."""

    _numbers = 0

    def __init__(self, postgres: Postgres, *, timeout_s: float = 60.0) -> None:
        Line._numbers += 1
        self.number = Line._numbers
        self.postgres = postgres
        self.network = postgres.network
        self.host: Host = PROCESS.get().host
        self.on_open: Callable[[Any], Awaitable[None]] | None = None
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._open_since = -1
        self._hears: dict[str, tuple[Callback, Context]] = {}
        self._answer: asyncio.Future[Any] | None = None
        self._context = copy_context()

    async def call(self, transaction: Callable[[], T]) -> T:
        """Have the transaction run there. Raises DatabaseUnavailable."""
        async with self._lock:
            if self._open_since != self.postgres.generation:
                await self._send(lambda: None)
                self._open_since = self.postgres.generation
                if self.on_open is not None:
                    await self.on_open(self)
            answer: T = await self._send(transaction)
            return answer

    async def add_listener(self, channel: str, callback: Callback) -> None:
        self._hears[channel] = (callback, copy_context())
        if self not in self.postgres.listening:
            self.postgres.listening.append(self)

    def hear(self, channel: str, payload: str) -> None:
        if channel in self._hears:
            callback, context = self._hears[channel]
            self.network.later(callback, None, 0, channel, payload, context=context)

    def lose(self, why: str) -> None:
        """The connection is gone: whoever waits learns it, whether the statement ran or not."""
        self._open_since = -1
        if self in self.postgres.listening:
            self.postgres.listening.remove(self)
        if (answer := self._answer) is not None:
            self._answer = None
            self.postgres.in_flight.discard(self)
            if not answer.done():
                answer.set_exception(DatabaseUnavailable(why))

    async def _send(self, transaction: Callable[[], Any]) -> Any:
        answer = self._answer = self.network.loop.create_future()
        self.postgres.in_flight.add(self)
        self.network.later(self._arrive, answer, transaction)
        try:
            return await answer
        finally:
            self.postgres.in_flight.discard(self)

    def _arrive(
        self, answer: "asyncio.Future[Any]", transaction: Callable[[], Any], late: bool = False
    ) -> None:
        """The statement reaches the server, or hangs on its way; a frozen server may run it when nobody waits any more."""
        weather, postgres = self.network.weather, self.postgres
        if self.host.cut_from_postgres or postgres.frozen:
            self._hang(answer, lambda: self._arrive(answer, transaction, postgres.frozen))
            return
        if answer.done() and not (late and postgres.up and self.network.happens(0.5)):
            return
        here = postgres.up and self.network.loop.time() >= self.host.postgres_again_at
        if not here or self.network.happens(weather.request_lost):
            self.lose("the server does not answer")
            return
        try:
            value, error = transaction(), None
        except Exception as raised:  # noqa: BLE001 - whatever it is, the caller gets it
            value, error = None, raised
        if self.network.happens(weather.answer_lost):
            self.lose("the connection broke before the answer came")
            return
        self.network.later(self._deliver, answer, value, error)

    def _deliver(self, answer: "asyncio.Future[Any]", value: Any, error: Exception | None) -> None:
        if self.host.cut_from_postgres:
            self._hang(answer, lambda: self._deliver(answer, value, error))
        elif not answer.done():
            self._answer = None
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(value)

    def _hang(self, answer: "asyncio.Future[Any]", again: Callable[[], None]) -> None:
        self.network.hanging.append(again)

        def give_up() -> None:
            if not answer.done() and self._answer is answer:
                self.lose("no answer in time")

        self.network.loop.call_later(self._timeout_s, give_up, context=self._context)


class Redis:
    """The Redis server: its model, up or down."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.model = ModelRedis()
        self.up = True

    def client(self) -> Any:
        host: Host = PROCESS.get().host

        async def via(command: Callable[[], Any]) -> Any:
            return await self._send(host, command)

        return self.model.client(via)

    def crash(self) -> None:
        """Die with everything in memory."""
        self.up = False
        self.model.flush()
        self.model.forget_scripts()
        self.model.fail_blocked(RedisLost("the connection broke"))

    async def _send(self, host: Host, command: Callable[[], Any]) -> Any:
        answer = self.network.loop.create_future()
        self.network.later(self._arrive, host, answer, command)
        return await answer

    def _arrive(self, host: Host, answer: "asyncio.Future[Any]", command: Callable[[], Any]) -> None:
        if host.cut_from_redis:
            self.network.loop.call_later(
                WAIT_FOR_REDIS_S, self._fail, answer, "no answer in time", context=self.network.servers
            )
            return
        if not self.up or self.network.happens(self.network.weather.request_lost):
            self._fail(answer, "the server does not answer")
            return
        try:
            value, error = command(), None
        except Exception as raised:  # noqa: BLE001 - whatever it is, the caller gets it
            value, error = None, raised
        if self.network.happens(self.network.weather.answer_lost):
            self._fail(answer, "the connection broke before the answer came")
            return
        self.network.later(self._deliver, answer, value, error)

    def _deliver(self, answer: "asyncio.Future[Any]", value: Any, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)

    def _fail(self, answer: "asyncio.Future[Any]", why: str) -> None:
        if not answer.done():
            answer.set_exception(RedisLost(why))
