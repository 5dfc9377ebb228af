"""Many new jobs as columns, as a bulk call stores them: an object for each would cost as much as to store it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from perdure.domain.ids import Ids
from perdure.domain.job import NewJob, Shape

shape_of: Callable[[NewJob], Shape] = attrgetter("shape")


@dataclass(frozen=True, slots=True)
class Bulk:
    """Jobs of one shape that have nothing but their arguments, which are JSON objects as text; `positions` are theirs in the call."""

    shape: Shape
    ids: Ids
    args: Sequence[str]
    positions: Sequence[int]


def in_bulk(jobs: Sequence[NewJob]) -> list[Bulk]:
    """Plain jobs by their shapes, in columns."""
    return columns(
        [job.shape for job in jobs], Ids([job.id.bytes for job in jobs]), [job.args for job in jobs]
    )


def columns(shapes: Sequence[Shape], ids: Ids, args: Sequence[str]) -> list[Bulk]:
    """Jobs by their shapes, in the order in which each shape comes first."""
    if len(every := dict.fromkeys(shapes)) == 1:
        return [Bulk(shapes[0], ids, args, range(len(args)))]
    groups: dict[Shape, list[int]] = {shape: [] for shape in every}
    for position, shape in enumerate(shapes):
        groups[shape].append(position)
    return [
        Bulk(shape, Ids([ids.raw[n] for n in positions]), [args[n] for n in positions], positions)
        for shape, positions in groups.items()
    ]


def shaped(jobs: Iterable[NewJob]) -> list[tuple[Shape, list[NewJob]]]:
    """The jobs by their shapes."""
    groups: dict[Shape, list[NewJob]] = {}
    for shape, group in groupby(jobs, shape_of):
        groups.setdefault(shape, []).extend(group)
    return list(groups.items())
