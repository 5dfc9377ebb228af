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
    """Jobs of one shape that have nothing but their arguments, JSON objects as text: the first id belongs to the first arguments."""

    shape: Shape
    ids: Ids
    args: Sequence[str]


def in_bulk(jobs: Iterable[NewJob]) -> list[Bulk]:
    """Plain jobs by their shapes, in columns."""
    return [
        Bulk(shape, Ids([job.id.bytes for job in alike]), [job.args for job in alike])
        for shape, alike in shaped(jobs)
    ]


def shaped(jobs: Iterable[NewJob]) -> list[tuple[Shape, list[NewJob]]]:
    """The jobs by their shapes."""
    groups: dict[Shape, list[NewJob]] = {}
    for shape, group in groupby(jobs, shape_of):
        groups.setdefault(shape, []).extend(group)
    return list(groups.items())
