"""Small pictures as SVG paths, drawn here so that they need neither a script nor a style."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spark:
    """A line and the area below it, in a box of `width` by `height`; `text` says the same in words."""

    line: str
    area: str
    width: int
    height: int
    text: str


def spark(values: Sequence[float], *, what: str, width: int = 120, height: int = 28) -> Spark:
    """A sparkline of values at equal distances, from zero up."""
    if not values:
        return Spark("", "", width, height, f"{what}: nothing yet")
    top = max(*values, 1e-9) if len(values) > 1 else max(values[0], 1e-9)
    step = width / max(1, len(values) - 1)
    room = height - 2
    points = [(at * step, 1 + room - room * value / top) for at, value in enumerate(values)]
    line = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    area = f"{line} L{points[-1][0]:.1f} {height} L0 {height} Z"
    words = f"{what}: now {values[-1]:,.4g}, least {min(values):,.4g}, most {max(values):,.4g}"
    return Spark(line, area, width, height, words)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a bar: from `x` on, `width` wide, of a whole of 100."""

    name: str
    count: int
    x: float
    width: float


def parts(counts: Sequence[tuple[str, int]]) -> list[Part]:
    """A bar of 100 divided by counts; what is there at all is at least half a unit wide."""
    whole = sum(count for _, count in counts)
    if not whole:
        return []
    wide = [(name, count, max(0.5, 100 * count / whole)) for name, count in counts if count]
    scale = 100 / sum(width for _, _, width in wide)
    found, x = [], 0.0
    for name, count, width in wide:
        found.append(Part(name, count, x, width * scale))
        x += width * scale
    return found
