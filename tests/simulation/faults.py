"""What goes wrong in a simulation: drawn beforehand, done at its time, and mended by an end that is drawn as well."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.network import Host

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: from `at` on, for `lasts` seconds; `which` picks its victim."""

    at: float
    lasts: float
    which: int
    kind: str


KINDS = (
    "host crashes", "process is killed", "supervisor is killed", "host is frozen", "supervisor is frozen",
    "process is frozen", "host is cut from PostgreSQL", "host is cut from Redis", "host is cut off", "PostgreSQL crashes",
    "PostgreSQL crashes after a claim", "PostgreSQL hangs", "connections break", "messages are lost", "messages are slow",
    "Redis crashes", "Redis is flushed", "Redis goes back in time", "worker is drained", "clock jumps",
)  # fmt: skip
COME_BACK_WITHIN_S = 4.0
REDIS_ONLY = {kind for kind in KINDS if "Redis" in kind}


def draw(random: Random, *, redis: bool) -> list[Fault]:
    """A handful of faults within the first twelve seconds."""
    kinds = [kind for kind in KINDS if redis or kind not in REDIS_ONLY]
    count = random.choice((0, 1, 1, 2, 2, 3, 4))
    return sorted(
        Fault(
            random.random() * 12,
            random.choice((0.3, 1.0, 2.0, 4.0, 8.0, 18.0)),
            random.randrange(12),
            random.choice(kinds),
        )
        for _ in range(count)
    )


def begin(world: "World", fault: Fault) -> Callable[[], None]:
    """Let the fault happen, and give what mends it."""
    host = world.hosts[fault.which % len(world.hosts)]
    how = globals()["_" + fault.kind.replace(" ", "_").lower()]
    mend: Callable[[], None] | None = how(world, host, fault)
    return mend or _nothing


def _nothing() -> None:
    return None


# ---- hosts and processes


def _host_crashes(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    for process in list(host.processes):
        world.loop.kill(process)
    return lambda: world.start_supervisor(host)


def _process_is_killed(world: "World", host: Host, fault: Fault) -> None:
    if children := [one for one in host.processes if one.alive and "/" in one.name]:
        world.loop.kill(children[fault.which % len(children)])


def _supervisor_is_killed(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    for process in [one for one in host.processes if one.alive and "/" not in one.name]:
        world.loop.kill(process)
    return lambda: world.start_supervisor(host)


def _host_is_frozen(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    return world.freeze(host, lambda process: True)


def _supervisor_is_frozen(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    return world.freeze(host, lambda process: "/" not in process.name)


def _process_is_frozen(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    return world.freeze(host, lambda process: "/" in process.name)


def _worker_is_drained(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    world.drain(host)
    return lambda: world.start_supervisor(host)


def _clock_jumps(world: "World", host: Host, fault: Fault) -> None:
    host.clock_off_s += 3600 if fault.which % 2 else -3600


# ---- the network


def _host_is_cut_from_postgresql(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    host.cut_from_postgres = True
    world.disturbed(host)

    def mend() -> None:
        host.cut_from_postgres = False
        world.disturbed(host)
        world.network.mend()

    return mend


def _host_is_cut_from_redis(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    host.cut_from_redis = True

    def mend() -> None:
        host.cut_from_redis = False

    return mend


def _host_is_cut_off(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    ends = _host_is_cut_from_postgresql(world, host, fault), _host_is_cut_from_redis(world, host, fault)

    def mend() -> None:
        for end in ends:
            end()

    return mend


def _messages_are_lost(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    weather = world.network.weather
    weather.request_lost = weather.answer_lost = 0.15
    weather.ring_lost, weather.ring_doubled = 0.5, 0.2
    world.all_disturbed()

    def mend() -> None:
        weather.request_lost = weather.answer_lost = 0.0
        world.all_disturbed()

    return mend


def _messages_are_slow(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    world.network.weather.slow = 0.3

    def mend() -> None:
        world.network.weather.slow = 0.0

    return mend


# ---- servers


def _postgresql_crashes(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    lost = world.postgres.crash(unflushed_s=(fault.which % 4) * 0.2)
    world.tell("claims lost", lost)

    def mend() -> None:
        world.postgres.restart()
        _hosts_come_back(world)

    return mend


def _postgresql_crashes_after_a_claim(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    world.crash_after_claim = True

    def mend() -> None:
        world.crash_after_claim = False
        world.postgres.restart()

    return mend


def _postgresql_hangs(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    world.postgres.frozen = True

    def mend() -> None:
        world.postgres.thaw()
        _hosts_come_back(world)

    return mend


def _hosts_come_back(world: "World") -> None:
    """One after the other, as their clients try again: whoever is first sees the others silent, though nothing ails them."""
    for one in world.hosts:
        one.postgres_again_at = world.loop.time() + world.random.random() * COME_BACK_WITHIN_S


def _connections_break(world: "World", host: Host, fault: Fault) -> None:
    world.postgres.break_connections()
    for n in range(1, 6):
        world.loop.call_later(n * 0.5, world.postgres.break_connections, context=world.network.servers)


def _redis_crashes(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    world.redis.crash()

    def mend() -> None:
        world.redis.up = True

    return mend


def _redis_is_flushed(world: "World", host: Host, fault: Fault) -> None:
    world.redis.model.flush()


def _redis_goes_back_in_time(world: "World", host: Host, fault: Fault) -> Callable[[], None]:
    dump = world.redis.model.dump()
    return lambda: world.redis.model.restore(dump)
