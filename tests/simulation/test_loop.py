"""The simulated loop: time is virtual, the seed decides the order, the paused stand still and the dead are gone."""

import asyncio
from contextvars import copy_context
from random import Random

import pytest

from tests.simulation.loop import PROCESS, Process, SimulatedLoop, Stuck


class Stage:
    """A loop with processes that write down what they do."""

    def __init__(self, seed: int = 0) -> None:
        self.loop = SimulatedLoop(Random(seed))
        self.said: list[str] = []

    def process(self, name: str, *pauses: float) -> Process:
        process = Process(name)
        context = copy_context()
        context.run(PROCESS.set, process)
        self.loop.create_task(self._say(name, pauses), context=context)
        return process

    async def _say(self, name: str, pauses: tuple[float, ...]) -> None:
        try:
            for pause in pauses:
                await asyncio.sleep(pause)
                self.said.append(f"{name} at {self.loop.time():g}")
        finally:
            self.said.append(f"{name} ends")

    def run(self, until: float) -> None:
        self.loop.call_later(until, lambda: None)
        self.loop.run_until(lambda: self.loop.time() >= until)


def test_an_hour_goes_by_at_once() -> None:
    stage = Stage()
    stage.process("a", 3600.0)
    stage.run(3601)
    assert stage.said == ["a at 3600", "a ends"]


def test_the_order_between_processes_depends_on_the_seed_alone() -> None:
    def order(seed: int) -> list[str]:
        stage = Stage(seed)
        for name in "abcdef":
            stage.process(name, 0.0, 0.0)
        stage.run(1)
        return stage.said

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 10


def test_a_paused_process_does_nothing_until_it_goes_on() -> None:
    stage = Stage()
    frozen = stage.process("frozen", 1.0, 1.0)
    stage.loop.call_later(0.5, stage.loop.pause, frozen)
    stage.loop.call_later(10.0, stage.loop.resume, frozen)
    stage.process("other", 2.0)
    stage.run(20)
    assert stage.said == ["other at 2", "other ends", "frozen at 10", "frozen at 11", "frozen ends"]


def test_a_killed_process_runs_nothing_any_more_not_even_its_finally() -> None:
    stage = Stage()
    victim = stage.process("victim", 1.0, 1.0)
    stage.loop.call_later(1.5, stage.loop.kill, victim)
    stage.run(10)
    assert stage.said == ["victim at 1"]
    assert (victim.alive, victim.code) == (False, -9)


def test_nothing_left_to_run_is_told() -> None:
    with pytest.raises(Stuck):
        SimulatedLoop(Random(0)).run_until(lambda: False)


def test_what_a_process_leaves_undone_is_closed_in_silence() -> None:
    stage = Stage()
    stage.process("waits", 1e6)
    stage.run(1)
    stage.loop.close()
    assert stage.loop.errors == []
