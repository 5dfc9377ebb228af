"""PromQL of the rules that is more than a comparison; each stands beside a condition of the same sense."""

from perdure.domain.alerts import limits as limit
from perdure.domain.alerts.facts import WAIT_TARGET_S

FAILED = 'result=~"failed|timed_out|crashed"'
COUNTED = 'result!~"released|interrupted"'


def late(span: str) -> str:
    """The part of the attempts of a span that started late."""
    waits = "perdure_queue_wait_seconds"
    within = f'sum(increase({waits}_bucket{{le="{WAIT_TARGET_S:.1f}"}}[{span}]))'
    return f"(1 - {within} / sum(increase({waits}_count[{span}])))"


def failing_kinds(above: float) -> str:
    """Kinds of which more than a part fails."""
    ended = f"sum by (kind) (increase(perdure_attempts_total{{{COUNTED}}}[10m]))"
    failed = f"sum by (kind) (increase(perdure_attempts_total{{{FAILED}}}[10m]))"
    return f"{failed} / {ended} > {above:g} and {ended} >= {limit.EVENTS_MIN}"


def grown(name: str, span: str, selector: str = "") -> str:
    """By how much a counter has grown, over all its labels; zero where it does not exist yet."""
    return f"(sum(increase({name}{{{selector}}}[{span}])) or vector(0))"


ATTEMPTS = grown("perdure_attempts_total", "10m", COUNTED)
FAILURES = grown("perdure_attempts_total", "10m", FAILED)
FINISHED = grown("perdure_jobs_finished_total", "10m")
AVAILABLE = 'perdure_queue_depth{state="available"}'
BUSY = 'perdure_worker_slots{state="busy"}'
