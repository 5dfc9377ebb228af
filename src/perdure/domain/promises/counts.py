"""S4: failures, crashes alone and interruptions are counted right and stay within their limits."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from perdure.domain.history import Held, Standing
from perdure.domain.job import JobState
from perdure.domain.promises.scene import Scene, Violation
from perdure.domain.settlement import Outcome

FAILURES = (Outcome.FAILED, Outcome.TIMED_OUT)


def numbers(before: Held, after: Held) -> Iterator[Violation]:
    if before.run != after.run:
        return
    if after.attempt != before.attempt + (before.outcome in FAILURES):
        words = f"job {after.job_id}: attempt {after.attempt} follows attempt {before.attempt}, which {before.outcome}"
        yield Violation("S4", "an attempt is misnumbered", words)
    crashes, interruptions = after.crashes - before.crashes, after.interruptions - before.interruptions
    crashed, interrupted = after.outcome is Outcome.CRASHED, after.outcome is Outcome.INTERRUPTED
    if not 0 <= crashes <= crashed or interruptions != interrupted:
        words = (
            f"job {after.job_id}: attempt {after.attempt} ends {after.outcome or 'not yet'} with {after.crashes} crashes and "
            f"{after.interruptions} interruptions after {before.crashes} and {before.interruptions}"
        )
        yield Violation("S4", "crashes or interruptions are miscounted", words)


@dataclass(frozen=True, slots=True)
class _Used:
    """What one run has used up, by its leases that have ended; a run that a restore opened goes on from the counts of the cut."""

    failures: int
    crashes: int
    interruptions: int
    crashed: int
    interrupted: int
    first: int
    last: int


def _bases(scene: Scene) -> dict[tuple[UUID, int], Held]:
    """The records with which restores opened runs."""
    opened = (one for one in scene.past.ended if one.token is None and one.outcome is Outcome.RELEASED)
    return {(one.job_id, one.run): one for one in opened}


def _used(scene: Scene) -> dict[tuple[UUID, int], _Used]:
    runs: dict[tuple[UUID, int], list[Held]] = defaultdict(list)
    for one in scene.past.ended:
        if one.token is not None:
            runs[one.job_id, one.run].append(one)
    bases = _bases(scene)
    return {run: _used_up(held, bases.get(run)) for run, held in runs.items()}


def _used_up(held: Sequence[Held], base: Held | None) -> _Used:
    return _Used(
        failures=sum(one.outcome in FAILURES for one in held) + (base.attempt if base else 0),
        crashes=max(one.crashes for one in held),
        interruptions=max(one.interruptions for one in held),
        crashed=sum(one.outcome is Outcome.CRASHED for one in held) + (base.crashes if base else 0),
        interrupted=sum(one.outcome is Outcome.INTERRUPTED for one in held)
        + (base.interruptions if base else 0),
        first=min(one.attempt for one in held) - (base.attempt if base else 0),
        last=max(one.attempt for one in held),
    )


def limits(scene: Scene, crash_limit: int, interruption_limit: int) -> Iterator[Violation]:
    """What each run used up, against what its job allows and what the history has."""
    for (job_id, run), used in _used(scene).items():
        if (body := scene.bodies.get(job_id)) is None:
            continue
        known, most = scene.known(job_id), body.crash_limit or crash_limit
        interruptions = max(used.interruptions, used.interrupted)
        miscounted = used.crashes > used.crashed or used.interruptions != used.interrupted
        for wrong, clause in (
            (max(used.failures, used.last) > body.max_attempts, "more failures than attempts allowed"),
            (used.crashes > most, "more crashes alone than allowed"),
            (interruptions > interruption_limit, "more interruptions than allowed"),
            (known and used.first != 1, "an attempt is misnumbered"),
            (known and miscounted, "crashes or interruptions are miscounted"),
        ):
            if wrong:
                yield Violation(
                    "S4", clause, f"job {job_id}, run {run}: {used}, {body.max_attempts} attempts allowed"
                )


def miscounts(scene: Scene) -> Iterator[Violation]:
    """A live row carries the counts of its run on."""
    used, bases = _used(scene), _bases(scene)
    rows = [
        *(one for one in scene.past.standing if one.place != "blocked"),
        *(
            Standing(
                job_id=one.job_id, place="leased", state=JobState.RUNNING, run=one.run,
                attempt=one.attempt - 1, crashes=one.crashes, interruptions=one.interruptions,
            )
            for one in scene.past.running
        ),
    ]  # fmt: skip
    for row in rows:
        run, base = used.get((row.job_id, row.run)), bases.get((row.job_id, row.run))
        counted = (base.attempt, base.crashes, base.interruptions) if base else (0, 0, 0)
        history = (run.failures, run.crashes, run.interrupted) if run else counted
        if scene.known(row.job_id) and (row.attempt, row.crashes, row.interruptions) != history:
            words = (
                f"job {row.job_id}, run {row.run}: its row says {row.attempt} failures, {row.crashes} crashes, "
                f"{row.interruptions} interruptions; its history {history}"
            )
            yield Violation("S4", "a live row miscounts", words)
