"""The one checker of the promises: used by tests, after every fault, and by whoever wants to know."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice, zip_longest

from perdure.domain.history import Past
from perdure.domain.job import LIVE, JobState
from perdure.domain.promises import Violation, judge, left_over, looked
from perdure.domain.settlement import DEFAULT_CRASH_LIMIT, DEFAULT_INTERRUPTION_LIMIT
from perdure.ports import Finding, Findings, History

PROMISES: Mapping[str, str] = {
    "S1": "every job ends in exactly one accepted outcome per run, or is still live in exactly one place",
    "S2": "leases of one job never overlap, and no token is issued twice",
    "S3": "an accepted outcome carries the newest token",
    "S4": "failures, crashes alone and interruptions of a run stay within their limits and are counted right",
    "S5": "no child starts before each parent has ended as the edge permits",
    "S6": "leases never exceed the limit of their concurrency key",
    "S7": "at most one job holds a unique key",
    "L1": "the backlog has drained: whatever nothing holds back has ended",
}
EXAMPLES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one promise holds; `clauses` counts the violations by kind, `examples` tells some in words."""

    promise: str
    meaning: str
    looked: int
    violations: int
    clauses: Mapping[str, int]
    examples: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.violations


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The verdicts of one moment, and how many jobs had not ended then, by state."""

    taken_at: datetime
    verdicts: tuple[Verdict, ...]
    live: Mapping[JobState, int]

    @property
    def ok(self) -> bool:
        return all(verdict.ok for verdict in self.verdicts)

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the promises that do not hold."""
        return tuple(verdict.promise for verdict in self.verdicts if not verdict.ok)

    def words(self) -> str:
        """Every broken promise with its examples, a line each; empty when all hold."""
        lines = []
        for verdict in self.verdicts:
            if not verdict.ok:
                lines.append(f"{verdict.promise} is broken {verdict.violations} times: {verdict.meaning}")
                lines += [f"  {clause}: {count}" for clause, count in verdict.clauses.items()]
                lines += [f"  - {example}" for example in verdict.examples]
        return "\n".join(lines)


class Check:
    """Judges S1 to S7 from the append-only history and the present state, on one consistent snapshot.

    The order of events is the order of transaction ids, which is certain for claims: a claim gets its id after it
    has seen the row that it takes. A transaction of the caller may have got its id long before it enqueued or
    cancelled, so no judgement rests on such an id being late. Hence what can be proved:

    - S1 for every run that a job has begun, or that the events say was opened for it.
    - S5 by the child's first claim and the ends of its parents, as far as the edges are kept.
    - S7 for the present in full. For the past only that no two jobs of a key were between first claim and
      end of a run at once, for keys that count running jobs and have no period: which of two
      enqueues came first cannot be told from the history.

    Jobs whose day was dropped are beyond the horizon, and so is what the oldest day of history cannot show.
    After a restore into another cluster transaction ids begin anew, and only what happened since can be judged.
    L1, that the backlog drains in time, has a bound that only callers know: they ask for it when that time has passed.
    """

    def __init__(self, history: History) -> None:
        self._history = history

    async def run(
        self,
        *,
        crash_limit: int = DEFAULT_CRASH_LIMIT,
        interruption_limit: int = DEFAULT_INTERRUPTION_LIMIT,
        drained: bool = False,
    ) -> CheckReport:
        """Check everything; the limits are those that hold for jobs without their own.

        `drained` says that by now all work should be done, and asks for L1 too.
        """
        findings = await self._history.findings(
            crash_limit=crash_limit, interruption_limit=interruption_limit, drained=drained
        )
        return CheckReport(
            taken_at=findings.taken_at,
            verdicts=tuple(
                _verdict(
                    promise, [f for f in findings.found if f.promise == promise], findings.looked[promise]
                )
                for promise in PROMISES
                if promise in findings.looked
            ),
            live=findings.live,
        )

    async def live(self) -> Mapping[JobState, int]:
        """How many jobs have not ended, by state: all zero once a backlog has drained."""
        return await self._history.live()


class RecordedHistory:
    """The port `History` on records in memory, read anew by `past` for each look: for tests, simulations and small exports."""

    def __init__(self, past: Callable[[], Past]) -> None:
        self._past = past

    async def findings(self, *, crash_limit: int, interruption_limit: int, drained: bool = False) -> Findings:
        past = self._past()
        found = judge(past, crash_limit=crash_limit, interruption_limit=interruption_limit)
        judged = looked(past)
        if drained:
            found += left_over(past)
            judged["L1"] = len(past.standing) + len(past.running)
        return Findings(taken_at=past.taken_at, looked=judged, found=_grouped(found), live=_live(past))

    async def live(self) -> Mapping[JobState, int]:
        return _live(self._past())


def _grouped(violations: Sequence[Violation]) -> Sequence[Finding]:
    clauses: dict[tuple[str, str], list[str]] = {}
    for violation in violations:
        clauses.setdefault((violation.promise, violation.clause), []).append(violation.words)
    return [
        Finding(promise=promise, clause=clause, violations=len(words), examples=tuple(words[:EXAMPLES_MAX]))
        for (promise, clause), words in clauses.items()
    ]


def _live(past: Past) -> Mapping[JobState, int]:
    counted = Counter(one.state for one in past.standing)
    counted[JobState.RUNNING] = len(past.running)
    return {state: counted[state] for state in JobState if state in LIVE}


def _verdict(promise: str, found: Sequence[Finding], looked: int) -> Verdict:
    """One promise's findings together; each clause that was found gives examples in turn."""
    clauses: dict[str, int] = {}
    for finding in found:
        clauses[finding.clause] = clauses.get(finding.clause, 0) + finding.violations
    in_turn = chain.from_iterable(zip_longest(*(finding.examples for finding in found)))
    return Verdict(
        promise=promise,
        meaning=PROMISES[promise],
        looked=looked,
        violations=sum(clauses.values()),
        clauses=clauses,
        examples=tuple(islice((example for example in in_turn if example is not None), EXAMPLES_MAX)),
    )
