"""S1: no job is lost, and none is done twice over."""

from collections import Counter
from collections.abc import Iterator, Mapping
from uuid import UUID

from perdure.domain.history import Body, Past
from perdure.domain.ids import made_at
from perdure.domain.job import TERMINAL, JobId, JobState
from perdure.domain.promises.scene import Scene, Violation

NAMES = {
    "blocked": "blocked job",
    "scheduled": "scheduled job",
    "available": "available job",
    "parked": "parked job",
}


def places(scene: Scene) -> Iterator[Violation]:
    """Each body is live in exactly one place, or its newest run has exactly one end."""
    opened: dict[UUID, int] = {}
    for event in scene.past.events:
        if event.event in ("retried", "replayed"):
            opened[event.job_id] = max(event.run, opened.get(event.job_id, 0))
    for job_id in scene.bodies:
        clause = _misplaced(scene, job_id, opened.get(job_id, 0))
        if clause:
            places = " and ".join(sorted(one.place for one in scene.alive.get(job_id, ()))) or "nowhere"
            words = (
                f"job {job_id} is {places}; its history knows run {scene.newest.get(job_id, 'none')}, "
                f"ended: {scene.ended_run(job_id) or 'none'}, opened: {opened.get(job_id, 'none')}"
            )
            yield Violation("S1", clause, words)


def _misplaced(scene: Scene, job_id: UUID, opened: int) -> str:
    """What is wrong with where a job stands; empty when nothing is."""
    alive, newest, ended = scene.alive.get(job_id), scene.newest.get(job_id), scene.ended_run(job_id)
    if alive is None:
        if opened > (newest or 0):
            return "a run that was opened has vanished"
        if newest is None:
            return "a job is nowhere" if scene.known(job_id) else ""
        return "" if ended == newest else "a run has neither ended nor a live row"
    if len(alive) > 1:
        return "a job stands in several places"
    if ended is not None and alive[0].run <= ended:
        return "a job is live in a run that has ended"
    if newest is not None and alive[0].run < newest:
        return "a job is live in a run older than its newest"
    return ""


def several_ends(scene: Scene) -> Iterator[Violation]:
    ends = Counter((one.job_id, one.run) for one in scene.past.ended if one.state in TERMINAL)
    for (job_id, run), count in ends.items():
        if count > 1:
            yield Violation("S1", "a run has several ends", f"job {job_id}: run {run} ended {count} times")


def letters(scene: Scene) -> Iterator[Violation]:
    """Whatever is discarded has a dead letter until somebody acknowledges it, and nothing else has one."""
    letters = {letter.job_id: letter.run for letter in scene.past.letters}
    dropped = {event.job_id for event in scene.past.events if event.event == "dead_letter_discarded"}
    discarded = {
        job_id: end.run
        for job_id, end in scene.last_end.items()
        if end.state is JobState.DISCARDED and end.run == scene.newest[job_id] and job_id not in scene.alive
    }
    for job_id in discarded.keys() - letters.keys() - dropped:
        words = f"job {job_id} is discarded, has no dead letter, and nobody acknowledged it"
        yield Violation("S1", "a discarded job has no dead letter", words)
    for job_id, run in letters.items():
        if discarded.get(job_id) != run:
            words = f"job {job_id} has a dead letter of run {run} but is not discarded in it"
            yield Violation("S1", "a dead letter of a job that is not discarded", words)


def orphans(past: Past, bodies: Mapping[UUID, Body]) -> Iterator[Violation]:
    """Whatever names a job names one that is there; history and edges of days whose bodies were dropped do not count."""
    firm = [
        *((one.job_id, NAMES[one.place]) for one in past.standing),
        *((one.job_id, "lease") for one in past.running),
        *((one.job_id, "dead letter") for one in past.letters),
        *((one.job_id, "unique key") for one in past.keys),
        *past.named,
    ]
    aging = [
        *((edge.child_id, "edge to a parent") for edge in past.edges),
        *((edge.parent_id, "edge to a child") for edge in past.edges),
        *((one.job_id, "row of history") for one in past.ended),
    ]
    aging = [one for one in aging if past.days is None or made_at(JobId(one[0])).date() in past.days]
    for job_id, thing in [*firm, *aging]:
        if job_id not in bodies:
            yield Violation("S1", f"{thing} without a body", f"job {job_id} has a {thing} but no body")
