"""Which workers may take a job, and in words why none does."""

from dataclasses import dataclass

UNSERVED_COUNTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """Jobs of one queue, kind and labels that wait, and that no active worker may take; `jobs` is counted to `UNSERVED_COUNTED`."""

    queue: str
    kind: str
    labels: tuple[str, ...]
    workers_on_queue: int
    workers_on_kind: int
    jobs: int

    @property
    def sentence(self) -> str:
        return why_unserved(self.queue, self.kind, self.labels, self.workers_on_queue, self.workers_on_kind)


def why_unserved(queue: str, kind: str, labels: tuple[str, ...], on_queue: int, on_kind: int) -> str:
    """Why no active worker may take such a job: of those on its queue so many know its kind, and none has its labels."""
    if on_queue == 0:
        return f"No active worker serves queue {queue}."
    if on_kind == 0:
        workers = f"{on_queue:,} worker" if on_queue == 1 else f"{on_queue:,} workers"
        return f"{workers} on queue {queue}, but none knows kind {kind}."
    return f"No active worker that knows kind {kind} has all the labels it needs: {', '.join(labels)}."
