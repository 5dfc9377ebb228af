from collections.abc import Coroutine
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from perdure.domain.context import Context
from perdure.domain.errors import InvalidOption


class Recorder:
    """A line that keeps what was said on it."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.stopped = False

    def is_cancelled(self) -> bool:
        return self.stopped

    async def progress(self, fraction: float, note: str) -> None:
        self.progress_sync(fraction, note)

    def progress_sync(self, fraction: float, note: str) -> None:
        self.said.append((fraction, note))

    async def complete(self, conn: object, result: object) -> None:
        self.complete_sync(conn, result)

    def complete_sync(self, conn: object, result: object) -> None:
        self.said.append((conn, result))


def context(line: Recorder) -> Context:
    return Context(
        job_id=uuid4(),
        kind="media.resize",
        queue="media",
        attempt=1,
        max_attempts=4,
        deadline=datetime(2026, 1, 1, tzinfo=UTC),
        line=line,
    )


def finish(step: Coroutine[object, None, None]) -> None:
    """Run a step that never waits, without an event loop."""
    with pytest.raises(StopIteration):
        step.send(None)


def test_a_context_speaks_over_its_line() -> None:
    line = Recorder()
    running = context(line)
    finish(running.progress(0.5, "half"))
    running.progress_sync(1)
    finish(running.complete("conn", 7))
    running.complete_sync("conn")
    assert line.said == [(0.5, "half"), (1.0, ""), ("conn", 7), ("conn", None)]


def test_a_context_sees_a_request_to_stop_at_once() -> None:
    line = Recorder()
    running = context(line)
    assert not running.cancelled
    line.stopped = True
    assert running.cancelled


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_progress_is_a_fraction(fraction: float) -> None:
    with pytest.raises(InvalidOption, match="fraction"):
        context(Recorder()).progress_sync(fraction)
