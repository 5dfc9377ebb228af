"""S2, S3 and S6: one owner, no late result, no slot held twice."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from perdure.domain.history import Body, Held
from perdure.domain.job import TERMINAL
from perdure.domain.promises.counts import numbers
from perdure.domain.promises.scene import NEVER, Scene, Violation, by_claim


def order(scene: Scene) -> Iterator[Violation]:
    """The leases of each job in the order of their claims, those that stand included."""
    tokens = Counter(one.token for held in scene.leases.values() for one in held)
    twice = {token for token, count in tokens.items() if count > 1}
    for token in twice:
        whose = {str(job_id) for job_id, held in scene.leases.items() for one in held if one.token == token}
        words = f"token {token} belongs to {tokens[token]} leases of {', '.join(sorted(whose))}"
        yield Violation("S2", "a token was issued twice", words)
    for job_id, held in scene.leases.items():
        for one in held:
            if one.claim_xid is None:
                words = f"job {job_id}: lease {one.token} has no transaction of its claim"
                yield Violation("S2", "a lease was never claimed", words)
        for before, after in pairwise(sorted(held, key=by_claim)):
            yield from _owners(before, after)
            yield from numbers(before, after)


def _owners(before: Held, after: Held) -> Iterator[Violation]:
    """Two neighbouring leases of one job: the first has ended when the second begins, and its end does not count later."""
    claimed, settled = after.claim_xid, before.settle_xid
    words = (
        f"job {after.job_id}: lease {after.token} was claimed by transaction {claimed} in run {after.run}; "
        f"lease {before.token} was settled by {settled or 'none yet'}, which left it {before.state or 'running'}"
    )
    if settled is None or (claimed is not None and settled >= claimed):
        yield Violation("S2", "two leases of a job overlap", words)
    if settled is not None and claimed is not None and settled > claimed:
        yield Violation("S3", "an outcome was accepted after a later claim", words)
    if before.run >= after.run and before.state in TERMINAL:
        yield Violation("S3", "an attempt follows the accepted end of its run", words)


def slots(scene: Scene) -> Iterator[Violation]:
    """No two leases hold one slot at once, and every lease of a job with a key holds a slot within its limit."""
    slots: dict[tuple[str, int | None], list[Held]] = defaultdict(list)
    for held in scene.leases.values():
        for one in held:
            if one.concurrency_key is not None:
                slots[one.concurrency_key, one.slot].append(one)
            if (body := scene.bodies.get(one.job_id)) is not None and not _within(one, body):
                words = (
                    f"job {one.job_id} ran in slot {one.slot} of key {one.concurrency_key}; "
                    f"its limit is {body.concurrency_limit} of key {body.concurrency_key}"
                )
                yield Violation("S6", "a lease is outside its limit", words)
    for (key, slot), held in slots.items():
        for before, after in pairwise(sorted(held, key=by_claim)):
            if before.settle_xid is None or before.settle_xid >= (after.claim_xid or NEVER):
                words = (
                    f"slot {slot} of key {key} was claimed for job {after.job_id} by transaction {after.claim_xid} while "
                    f"job {before.job_id} held it until {before.settle_xid or 'now'}"
                )
                yield Violation("S6", "two leases hold one slot", words)


def _within(held: Held, body: Body) -> bool:
    if body.concurrency_key is None and held.concurrency_key is None:
        return True
    limit = body.concurrency_limit or 0
    return held.concurrency_key == body.concurrency_key and held.slot is not None and 1 <= held.slot <= limit
