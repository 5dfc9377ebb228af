"""Puts virtual time, seeded randomness and simulated processes in the place of the real ones, and takes them away again."""

import gc
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import structlog

from perdure.runtime import child, duties, supervisor
from perdure.runtime.runners import endings
from perdure.services import execution
from perdure.stores.redis import link
from tests.simulation import machines
from tests.simulation.handlers import CURRENT
from tests.simulation.loop import PROCESS
from tests.simulation.world import EPOCH, Result, World

COLLECT_EVERY = 50
PACE = {
    (execution, "WATCH_S"): 1.0,
    (duties, "STAGE_S"): 1.0,
    (duties, "CANCEL_REQUESTS_S"): 2.0,
    (duties, "MARK_S"): 5.0,
    (duties, "UPKEEP_LOOK_S"): 20.0,
    (child, "REPORT_S"): 2.0,
}
"""Looks that are rarer than in production, since most of them find nothing and cost the time of other seeds."""


class SimulatedDatetime(datetime):
    """The wall clock of the host that asks."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        off = PROCESS.get().host.clock_off_s
        return EPOCH + timedelta(seconds=CURRENT[0].loop.time() + off)


def simulated_monotonic() -> float:
    return 1000.0 + CURRENT[0].loop.time() if CURRENT else time.monotonic()


def simulated_uuid4() -> uuid.UUID:
    return uuid.UUID(int=CURRENT[0].random.getrandbits(128), version=4)


def note(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """An error that production did not foresee is a finding; everything else is told."""
    if CURRENT:
        world: World = CURRENT[0]
        if event.get("exc_info"):
            error = sys.exc_info()[1]
            world.problem(f"unforeseen: {event['event']}: {error!r}")
        else:
            world.tell("log:", PROCESS.get(world.loop.world).name, event["event"])
    raise structlog.DropEvent


@contextmanager
def installed() -> Iterator[None]:
    """Within, worlds can be run; the interpreter's own clock and randomness are as before afterwards."""
    clocked = [
        module for name, module in list(sys.modules.items())
        if name.startswith("perdure.") and getattr(module, "monotonic", None) is time.monotonic
    ]  # fmt: skip
    patches: list[Any] = [
        *(patch.object(module, "monotonic", simulated_monotonic) for module in clocked),
        patch.object(endings, "datetime", SimulatedDatetime),
        patch.object(uuid, "uuid4", simulated_uuid4),
        *(patch.object(module, name, pace) for (module, name), pace in PACE.items()),
        patch.object(supervisor, "ChildProcess", machines.SimulatedChild),
        patch.object(supervisor, "plain", lambda settings: {}),
        patch.object(child, "process_stores", machines.process_stores),
        patch.object(child, "os", SimpleNamespace(_exit=machines.this_process_exits, getpid=os.getpid)),
        patch.object(child, "resident_mb", lambda: 0.0),
        patch.object(link, "_client", lambda url, *, timeout: CURRENT[0].redis.client()),
    ]
    config = structlog.get_config()
    # Whatever a command that ran in this process before wanted to hear.
    everything = structlog.make_filtering_bound_logger(0)
    structlog.configure(processors=[note], wrapper_class=everything, cache_logger_on_first_use=False)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for one in patches:
            one.start()
        yield
    finally:
        for one in reversed(patches):
            one.stop()
        structlog.configure(**config)
        if collecting:
            gc.enable()


def simulate(seed: int, *, keep_trace: bool = False) -> Result:
    """Run one seed; `installed` must be in force."""
    result = World(seed, keep_trace=keep_trace).run()
    if seed % COLLECT_EVERY == 0:
        gc.collect()
    return result


def failures(seeds: Iterable[int]) -> Iterator[Result]:
    """The seeds that break something."""
    with installed():
        yield from (result for result in map(simulate, seeds) if result.problems)
