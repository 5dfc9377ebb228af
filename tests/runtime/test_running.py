"""What a process runs is known to its supervisor, whatever kills it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from perdure.runtime.running import Running, shared_page

SLOTS = 3
KILLED = """
import os, signal, sys
from uuid import UUID
from perdure.runtime.running import Running
running = Running(int(sys.argv[1]), 3)
for token in sys.argv[2:]:
    running.add(UUID(token))
running.remove(UUID(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def page() -> Iterator[int]:
    descriptor = shared_page(SLOTS)
    yield descriptor
    os.close(descriptor)


def test_what_ran_is_known_after_the_process_was_killed(page: int) -> None:
    ended, running = uuid4(), uuid4()
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(page), str(ended), str(running)], pass_fds=[page], check=False
    )
    assert process.returncode == -9
    seen = Running(page, SLOTS)
    assert seen.tokens() == frozenset([running])
    seen.close()


def test_places_are_used_again_and_more_than_fit_tell_nothing(page: int) -> None:
    running = Running(page, SLOTS)
    tokens: list[UUID] = []
    for _ in range(10):
        tokens = [uuid4() for _ in range(SLOTS)]
        for token in tokens:
            running.add(token)
        assert running.tokens() == frozenset(tokens)
        for token in tokens:
            running.remove(token)
        assert running.tokens() == frozenset()
    for _ in range(SLOTS + 1):
        running.add(uuid4())
    assert running.tokens() is None
    running.remove(uuid4())
    running.close()
