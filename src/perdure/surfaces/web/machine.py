"""A job's way through its states, as a picture: which of them it has been in, and by which moves it came."""

from dataclasses import dataclass
from itertools import pairwise

from perdure.domain.job import JobState
from perdure.domain.views import AttemptView, JobDetail

BOX_WIDTH, BOX_HEIGHT = 104, 34
ROW, COLUMN = 58, 158
_PLACES: dict[JobState, tuple[int, int]] = {
    JobState.PENDING: (0, 0),
    JobState.SCHEDULED: (0, 2),
    JobState.AVAILABLE: (1, 1),
    JobState.RUNNING: (2, 1),
    JobState.RETRYABLE: (2, 2),
    JobState.COMPLETED: (3, 0),
    JobState.DISCARDED: (3, 1),
    JobState.CANCELLED: (3, 2),
}
"""Column and row of each state."""
_DRAWN = (
    (JobState.PENDING, JobState.AVAILABLE),
    (JobState.PENDING, JobState.SCHEDULED),
    (JobState.SCHEDULED, JobState.AVAILABLE),
    (JobState.AVAILABLE, JobState.RUNNING),
    (JobState.RUNNING, JobState.COMPLETED),
    (JobState.RUNNING, JobState.DISCARDED),
    (JobState.RUNNING, JobState.CANCELLED),
    (JobState.RUNNING, JobState.RETRYABLE),
    (JobState.RETRYABLE, JobState.AVAILABLE),
)
"""The moves that are always drawn; others only when the job made them."""

Move = tuple[JobState, JobState]


@dataclass(frozen=True, slots=True)
class Box:
    """A state: whether the job has been there, how often, and whether it is there now."""

    state: JobState
    x: int
    y: int
    times: int
    current: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """A move: the path of its line, and how often it was made."""

    move: Move
    path: str
    times: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The picture, and the same in a sentence."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: int
    height: int
    text: str


def machine(detail: JobDetail) -> Machine:
    """The picture of one job."""
    way = steps(detail)
    moves = list(pairwise(way))
    drawn = dict.fromkeys([*_DRAWN, *moves])
    boxes = tuple(
        Box(state, *_corner(state), way.count(state), state is detail.job.state) for state in JobState
    )
    arrows = [Arrow(move, _path(move), moves.count(move)) for move in drawn if move[0] is not move[1]]
    return Machine(
        boxes=boxes,
        arrows=tuple(sorted(arrows, key=lambda arrow: arrow.times)),  # those it came by lie on top
        width=3 * COLUMN + BOX_WIDTH,
        height=2 * ROW + BOX_HEIGHT,
        text=" → ".join(way),
    )


def steps(detail: JobDetail) -> list[JobState]:
    """The states that the job has been in, in order, as far as its history tells."""
    way: list[JobState] = []
    for attempt in sorted(detail.attempts, key=lambda one: one.settled_at):
        _begin(way, detail, attempt)
        if attempt.claimed_at is not None:
            way += [state for state in (JobState.AVAILABLE, JobState.RUNNING) if way[-1:] != [state]]
        elif attempt.available_at is not None:
            _reach(way, JobState.AVAILABLE)
        _reach(way, attempt.state)
    if not way:
        _begin(way, detail, None)
    if detail.job.state is JobState.RUNNING:
        _reach(way, JobState.AVAILABLE)
    _reach(way, detail.job.state)
    return way


def _begin(way: list[JobState], detail: JobDetail, first: AttemptView | None) -> None:
    if way:
        return
    if detail.parents:
        way.append(JobState.PENDING)
    elif first is not None and first.available_at is not None:
        late = (first.available_at - detail.job.enqueued_at).total_seconds() > 1
        way.append(JobState.SCHEDULED if late else JobState.AVAILABLE)


def _reach(way: list[JobState], state: JobState) -> None:
    if way[-1:] == [state]:
        return
    if way and way[-1] is JobState.SCHEDULED and state is JobState.RUNNING:
        way.append(JobState.AVAILABLE)
    way.append(state)


def _corner(state: JobState) -> tuple[int, int]:
    column, row = _PLACES[state]
    return column * COLUMN, row * ROW


def _path(move: Move) -> str:
    """A line from the side of one box to the side of the other, whichever sides face each other."""
    (left, top), (right, bottom) = _corner(move[0]), _corner(move[1])
    middle, end = top + BOX_HEIGHT / 2, bottom + BOX_HEIGHT / 2
    if left == right:
        x = left + BOX_WIDTH / 2
        down = bottom > top
        return (
            f"M{x} {top + BOX_HEIGHT if down else top} L{x} {bottom - 5 if down else bottom + BOX_HEIGHT + 5}"
        )
    if left < right:
        start, stop = left + BOX_WIDTH, right - 6
        bend = (start + stop) / 2
        return f"M{start} {middle} C{bend} {middle} {bend} {end} {stop} {end}"
    below = right + BOX_WIDTH / 2
    return f"M{left} {middle} C{below} {middle} {below} {middle} {below} {bottom + BOX_HEIGHT + 6}"
