"""Figures, each beside its limit, for people and for programs."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil


@dataclass
class Results:
    """The figures, each beside its limit."""

    missed: list[str] = field(default_factory=list)
    figures: list[Mapping[str, object]] = field(default_factory=list)

    def tell(self, what: str, value: float, unit: str, limit: float | None = None) -> None:
        """A figure that must not exceed its limit, where it has one."""
        over = limit is not None and value > limit
        if over:
            self.missed.append(what.strip())
        self.figures.append({"what": what.strip(), "value": round(value, 3), "unit": unit, "limit": limit})
        mark = "MISSED" if over else "ok" if limit is not None else ""
        bound = "" if limit is None else f"limit {limit:g} {unit}"
        print(f"  {what:<58} {value:>10.1f} {unit:<4} {bound:<16} {mark}", flush=True)

    def promise(self, what: str, broken: int) -> None:
        """Something that must never happen, and how often it did."""
        self.tell(what, broken, "", 0)

    def as_json(self, **about: object) -> str:
        """All figures, with what they were measured on."""
        return json.dumps({**about, "figures": self.figures, "missed": self.missed}, default=str)


@contextmanager
def watched() -> Iterator[Callable[[], float]]:
    """How far the memory of this process grew at most, in MB."""
    process, peak, over = psutil.Process(), [0.0], asyncio.Event()
    start = process.memory_info().rss

    async def watch() -> None:
        while not over.is_set():
            peak[0] = max(peak[0], (process.memory_info().rss - start) / 1e6)
            await asyncio.sleep(0.05)

    watching = asyncio.ensure_future(watch())
    yield lambda: peak[0]
    over.set()
    watching.cancel()
