"""What the history says of the story: whether each part of it went as it should."""

from dataclasses import dataclass

from perdure.demo import jobs, sound
from perdure.demo.decay import Decayed
from perdure.demo.lookback import LookedBack, Past, Recalled, Restored
from perdure.demo.story import DELAY, MANY, Happened, Mended
from perdure.domain.restore import Circumstance, Phase
from perdure.stores.postgres.figures import KindFigures, PostgresFigures

LEADER = "perdure"
MEMORY = "memory fills"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A part of the story, and whether it went as it should."""

    title: str
    told: str
    ok: bool


async def chapters(
    happened: Happened, decayed: Decayed, looked: LookedBack, figures: PostgresFigures
) -> list[Chapter]:
    """Every part, told from the history."""
    ledger = {row.kind: row for row in await figures.ledger()}
    progress = await figures.progress()
    return [
        _pipeline(happened),
        _retried(ledger[jobs.digest.name]),
        _poison(happened, ledger[jobs.analyse.name]),
        await _delayed(happened, figures),
        await _urgent(happened, figures),
        _killed(happened, ledger[""]),
        decay(decayed, ledger[sound.index.name]),
        past(looked.past, happened),
        recalled(looked.recalled, happened.mended),
        restored(looked.restored),
        Chapter(
            title="the end",
            told=f"{sum(row.completed for row in progress):,} of {sum(row.jobs for row in progress):,} jobs completed",
            ok=all(row.completed == row.jobs for row in progress),
        ),
    ]


def _pipeline(happened: Happened) -> Chapter:
    totals, plan = happened.written.totals, happened.plan
    return Chapter(
        title="the pipeline",
        told=f"{totals.files:,} files with {totals.lines:,} lines in {totals.packages:,} packages, "
        f"{totals.functions:,} functions, {totals.faults:,} files that are no Python",
        ok=(totals.files, totals.packages) == (plan.files, plan.packages),
    )


def _retried(digests: KindFigures) -> Chapter:
    return Chapter(
        title="a busy storage",
        told=f"{digests.retries:,} attempts failed and were retried with back-off; all {digests.jobs:,} jobs completed",
        ok=digests.retries > 0 and digests.completed == digests.jobs,
    )


def _poison(happened: Happened, analyses: KindFigures) -> Chapter:
    mended = happened.mended
    return Chapter(
        title="a poison file",
        told=f"gave up with {mended.error}, group {mended.fingerprint}; mended, replayed, completed",
        ok=mended.letters == mended.replayed == 1 <= analyses.dead_letters,
    )


async def _delayed(happened: Happened, figures: PostgresFigures) -> Chapter:
    timing = await figures.timing(happened.stock.id)
    waited = timing.started_at - timing.enqueued_at
    return Chapter(
        title="a delayed job",
        told=f"was to wait {DELAY.total_seconds():g} s, began after {waited.total_seconds():.2f} s "
        f"and counted {happened.counted:,} completed jobs",
        ok=waited >= DELAY,
    )


async def _urgent(happened: Happened, figures: PostgresFigures) -> Chapter:
    """With little to overtake, it may find nothing that still waits."""
    timing = await figures.timing(happened.urgent)
    waited = (timing.started_at - timing.available_at).total_seconds()
    overtaken, their_wait = await figures.overtaken(happened.urgent)
    return Chapter(
        title="an urgent job",
        told=f"overtook {overtaken:,} jobs: it waited {waited:.2f} s, they {their_wait:.2f} s (median)",
        ok=(overtaken > 0 and waited < their_wait) or happened.plan.files < MANY,
    )


def _killed(happened: Happened, total: KindFigures) -> Chapter:
    return Chapter(
        title="a killed process",
        told=f"held {happened.victim.held:,} jobs; {total.rescued:,} were rescued and completed elsewhere",
        ok=total.rescued >= happened.victim.held > 0,
    )


def decay(decayed: Decayed, indexed: KindFigures) -> Chapter:
    """Foretold for its memory, evacuated by nobody's order, replaced; no job lost an attempt by it."""
    said, evacuation, handover = decayed.prediction, decayed.evacuation, decayed.handover
    foretold = said is not None and any(MEMORY in reason.what for reason in said.reasons)
    evacuated = evacuation is not None and evacuation.actor == LEADER and decayed.code == 0
    unharmed = indexed.attempts == indexed.completed == indexed.jobs and not handover.amiss
    held = handover.moved + handover.finished
    chance = (
        f"{said.probability:.0%} within {said.horizon.total_seconds() / 60:.0f} min" if said else "nothing"
    )
    return Chapter(
        title="a sick worker",
        told=f"{decayed.name} leaks: {'foretold' if foretold else 'NOT foretold'} ({chance}), "
        f"evacuated by {evacuation.actor if evacuation else 'nobody'}, ended with code {decayed.code}; "
        f"{handover.moved} jobs moved, {handover.finished} ended in peace, {handover.amiss} lost an attempt; "
        f"replaced by {decayed.heir}, which did {decayed.done_by_heir}",
        ok=foretold and evacuated and unharmed and held > 0 and decayed.done_by_heir > 0,
    )


def past(seen: Past, happened: Happened) -> Chapter:
    """With little to do, nothing may have run or waited at the moment remembered."""
    return Chapter(
        title="looking back",
        told=f"at {seen.at:%H:%M:%S} UTC {seen.running:,} jobs ran, {seen.waiting:,} waited, {seen.completed:,} had completed",
        ok=(seen.running > 0 and seen.waiting > 0) or happened.plan.files < MANY,
    )


def recalled(found: Recalled, mended: Mended) -> Chapter:
    """The failure that was fixed first is the one that is found, and its fix helps."""
    before, how = found.before.execution, found.before.execution.resolved
    return Chapter(
        title="seen before",
        told=f"a new failure is like that of job {before.job_id} ({found.before.similarity:.0%}); "
        f"what fixed it ({how.reason if how else 'nothing'}) was done again",
        ok=before.job_id == mended.job and how is not None and found.fixed,
    )


def restored(graph: Restored) -> Chapter:
    """What was cancelled by mistake, and nothing else, has run again; the package is whole."""
    changed = {case.circumstance: case.jobs for case in graph.restore.outcomes if case.outcome == "done"}
    facts, phase = graph.facts, graph.restore.phase
    whole = facts is not None and facts.package == graph.package and facts.files == graph.files
    return Chapter(
        title="one graph",
        told=f"{graph.cancelled} of the {graph.jobs} jobs of package {graph.package!r} were cancelled by mistake; "
        f"restore in place from snapshot {graph.snapshot}: {phase}, {'all completed' if whole else 'not all completed'}",
        ok=phase is Phase.DONE
        and changed == {Circumstance.CANCELLED_SINCE: graph.cancelled}
        and graph.cancelled > 0
        and whole,
    )
