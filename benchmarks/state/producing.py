"""A producer of the loss, in a process of its own: enqueues at a rate, and writes down what it was promised and what it was refused.

    python -m benchmarks.state.producing LEDGER RATE

A call that fails is repeated with the same id until it is answered. Settings come from the environment, and it works until SIGTERM.
"""

import asyncio
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from uuid import UUID

from benchmarks.state.work import step
from perdure import Perdure
from perdure.domain.errors import Unavailable
from perdure.runtime.new_ids import new_id

CALLERS = 32
PAUSE_S = 0.1


async def produce(app: Perdure, ledger: TextIO, rate: float, over: asyncio.Event) -> None:
    """Have many callers enqueue, all together at most `rate` jobs a second."""

    async def call(number: int) -> None:
        due = time.monotonic() + number / rate
        while not over.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + CALLERS / rate, time.monotonic() - 1)
            await _once(app, ledger, over)

    await asyncio.gather(*(call(number) for number in range(CALLERS)))


async def _once(app: Perdure, ledger: TextIO, over: asyncio.Event) -> None:
    job_id, asked = new_id(), time.monotonic()
    while not over.is_set():
        try:
            await app.using(id=job_id).enqueue(step, 1)
        except Unavailable as error:
            ledger.write(f"- {time.time():.3f} {type(error).__name__}\n")
            await asyncio.sleep(PAUSE_S)
        else:
            ledger.write(f"+ {time.time():.3f} {job_id} {(time.monotonic() - asked) * 1e3:.2f}\n")
            return


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A job that the database has answered for, when, and after how many milliseconds."""

    at: float
    job_id: UUID
    took_ms: float


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a producer wrote down."""

    promises: list[Promise] = field(default_factory=list)
    refusals: list[tuple[float, str]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        ledger = cls()
        for line in path.read_text().splitlines():
            match line.split(" "):
                case ["+", at, job_id, took]:
                    ledger.promises.append(Promise(at=float(at), job_id=UUID(job_id), took_ms=float(took)))
                case ["-", at, name]:
                    ledger.refusals.append((float(at), name))
        return ledger

    def between(self, begin: float, end: float) -> list[Promise]:
        return [one for one in self.promises if begin <= one.at < end]

    def refused(self, begin: float, end: float) -> Counter[str]:
        return Counter(name for at, name in self.refusals if begin <= at < end)


async def main(ledger: Path, rate: float) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    with ledger.open("a", buffering=1) as file:
        app = Perdure()
        await produce(app, file, rate, over)
        await app.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
