"""The one loop: what it does and says while a server is away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle

import pytest
from structlog.testing import capture_logs

from perdure.domain.alerts.standing import BLIND_AFTER
from perdure.domain.errors import DatabaseUnavailable, Locked
from perdure.runtime import loops
from perdure.runtime.loops import every
from perdure.runtime.outage import Outage
from perdure.stores.postgres.alerts import BUDGET


async def test_an_outage_of_the_database_is_told_once_by_all_loops_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At debug each loop says its own; above, one line says that the database is away and one that it is back."""
    monkeypatch.setattr(loops, "OF_PROCESS", Outage())
    worked = {name: asyncio.Event() for name in ("one", "two", "three")}

    def rounds(name: str) -> Iterator[bool]:
        yield from (True, False, False)
        worked[name].set()
        while True:
            yield True

    def duty(name: str) -> Callable[[], Awaitable[object]]:
        fine = rounds(name)

        async def once() -> None:
            if not next(fine):
                raise DatabaseUnavailable("PostgreSQL does not answer")

        return once

    with capture_logs() as said:
        tasks = [asyncio.create_task(every(0.01, duty(name), name=name, asks=True)) for name in worked]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in worked.values())), 30)
        for task in tasks:
            task.cancel()
    told = [one["event"] for one in said if one["log_level"] != "debug"]
    assert told[0] == "waiting for the database"
    assert told.count("waiting for the database") == told.count("database back") == len(told) / 2
    assert len(told) < 2 * len(worked) * 2
    assert [one["event"] for one in said if one["log_level"] == "debug"].count("must wait") == len(worked)


async def test_a_round_that_has_not_asked_the_database_does_not_end_its_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a duty of the leader where this worker does not lead."""
    monkeypatch.setattr(loops, "OF_PROCESS", Outage())
    away, passed = asyncio.Event(), asyncio.Event()

    async def asks() -> None:
        away.set()
        raise DatabaseUnavailable("PostgreSQL does not answer")

    async def idles() -> None:
        if away.is_set() and told:
            passed.set()
        if away.is_set():
            told.append(True)

    told: list[bool] = []
    with capture_logs() as said:
        tasks = [
            asyncio.create_task(every(0.01, asks, name="one", asks=True)),
            asyncio.create_task(every(0.01, idles, name="two")),
        ]
        await asyncio.wait_for(passed.wait(), 30)
        for task in tasks:
            task.cancel()
    assert [one["event"] for one in said if one["log_level"] != "debug"] == ["waiting for the database"]


async def test_a_lock_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "OF_PROCESS", Outage())
    met = asyncio.Event()
    rounds = 0

    async def duty() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            met.set()
        raise Locked("somebody holds it")

    with capture_logs() as said:
        task = asyncio.create_task(every(0.01, duty, name="stage"))
        await asyncio.wait_for(met.wait(), 30)
        task.cancel()
    assert {entry["log_level"] for entry in said} == {"debug"}
    assert not [entry for entry in said if "database" in entry["event"]]


@pytest.mark.parametrize("cleaning_up", [DatabaseUnavailable("gone"), ValueError("a defect"), None])
async def test_a_loop_ends_when_it_is_cancelled_whatever_comes_of_it(
    monkeypatch: pytest.MonkeyPatch, cleaning_up: Exception | None
) -> None:
    """A round that is cancelled in a transaction rolls back, and what that raises takes the place of the cancellation."""
    monkeypatch.setattr(loops, "OF_PROCESS", Outage())
    under_way, for_ever = asyncio.Event(), asyncio.Event()

    async def duty() -> None:
        under_way.set()
        try:
            await for_ever.wait()
        except asyncio.CancelledError:
            if cleaning_up is not None:
                raise cleaning_up from None

    task = asyncio.create_task(every(0.01, duty, name="levels"))
    await asyncio.wait_for(under_way.wait(), 30)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("took", "pause"),
    [
        ((0.0,), 10.0),
        ((0.4,), 10.0),
        ((2.0,), 38.0),
        ((2.0, 0.1), 10.0),  # one that was held up says nothing
        ((40.0,), loops.LONGEST_REST_S),
        ((3_600.0,), loops.LONGEST_REST_S),
    ],
)
async def test_a_loop_that_rests_pauses_in_proportion_to_its_rounds(
    monkeypatch: pytest.MonkeyPatch, took: tuple[float, ...], pause: float, fails: bool
) -> None:
    """A round that takes seconds while dead rows lie by the million takes a twentieth of the time, also where it fails in the end."""
    monkeypatch.setattr(loops, "OF_PROCESS", Outage())
    pauses, clock, lengths = list[float](), [0.0], cycle(took)

    class Ended(BaseException):
        pass

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 100:
            raise Ended

    async def duty() -> None:
        clock[0] += next(lengths)
        if fails:
            raise DatabaseUnavailable("the answer did not come in time")

    monkeypatch.setattr(loops, "monotonic", lambda: clock[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(Ended):
        await every(10.0, duty, name="alerts", rest=19.0)
    assert pauses.pop(0) <= 10.0 * (1 + loops.JITTER), "of one round nothing is known yet"
    assert min(pauses) >= pause * (1 - loops.JITTER)
    assert max(pauses) <= pause * (1 + loops.JITTER)


def test_an_alert_is_seen_again_before_it_would_begin_anew() -> None:
    """Or none that must have held for a while would ever fire once looks take long."""
    longest_look_s = 2 * BUDGET.total_seconds()
    assert loops.LONGEST_REST_S * (1 + loops.JITTER) + longest_look_s < BLIND_AFTER.total_seconds()
