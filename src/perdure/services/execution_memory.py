"""The memory of executions: reads the history as it grows, keeps what is worth remembering, and finds what is like it."""

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from perdure.domain.bounds import checked_count
from perdure.domain.errors import MemoryUnavailable, NotFound
from perdure.domain.execution_memory import (
    WORDING,
    EndedAttempt,
    ExecutionContext,
    MemoryStatus,
    SimilarExecution,
    Wanted,
    asked,
    checked_question,
    context_of,
    words_of,
)
from perdure.domain.redaction import Redaction
from perdure.ports.execution_memory import Cursor, Embedder, EndedAttempts, ExecutionVectors, Horizon

AT_ONCE = 256
LIMIT_MAX = 200
BEHIND_MAX = 100_000
OF_A_JOB = 20
REST = timedelta(minutes=1)
KIND_WEIGHT = 0.15
BEGINNING = Cursor(position=-(2**63), token=UUID(int=0))
NOTHING = Wanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What is remembered: of successes this share, all else whole; each for so long."""

    sample: float = 0.1
    keep: timedelta = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberReport:
    """How many attempts one round read, how many attempts it noted as resolved, and whether nothing is left."""

    read: int
    resolved: int
    caught_up: bool


class ExecutionMemory:
    """Nothing here is needed for a job to run: it is read from the history, and can be dropped and read again."""

    def __init__(
        self,
        attempts: EndedAttempts,
        vectors: ExecutionVectors,
        embedder: Embedder,
        redaction: Redaction,
        share: Share,
    ) -> None:
        self._attempts = attempts
        self._vectors = vectors
        self._embedder = embedder
        self._redaction = redaction
        self._share = share
        self._kinds: dict[str, Sequence[float]] = {}
        self._prepared: str | None = None

    async def remember_once(self) -> RememberReport:
        """Read the next attempts of the history and keep them. Raises MemoryUnavailable, and the next round tries the same again.

        A collection that is not there is made, and the history read from its beginning. Harmless when two do it at once.
        """
        horizon = await self._attempts.horizon()
        collection = await self._collection(horizon)
        if self._prepared != collection and await self._vectors.prepare(collection):
            await self._attempts.begin_again(collection)
        self._prepared = collection
        cursor = await self._attempts.cursor(collection, horizon.era) or BEGINNING
        try:
            found = await self._attempts.after(cursor, horizon.ends, sample=self._share.sample, limit=AT_ONCE)
            resolved = await self._keep(collection, found)
        except MemoryUnavailable:
            self._prepared = None  # it may have been dropped meanwhile
            raise
        await self._advance(collection, horizon, cursor, found)
        return RememberReport(read=len(found), resolved=resolved, caught_up=len(found) < AT_ONCE)

    async def forget_old(self) -> None:
        """Forget what ended longer ago than is kept. Raises MemoryUnavailable."""
        horizon = await self._attempts.horizon()
        await self._vectors.forget_before(await self._collection(horizon), horizon.now - self._share.keep)

    async def search(
        self, text: str, wanted: Wanted = NOTHING, *, limit: int = 10
    ) -> Sequence[SimilarExecution]:
        """The past executions that are most like this text, such as an error message. Raises InvalidOption and MemoryUnavailable."""
        checked_count(limit, "limit", low=1, high=LIMIT_MAX)
        (vector,) = await asyncio.to_thread(self._embedder.embed, [asked(checked_question(text))])
        return await self._vectors.nearest(await self._collection(), vector, wanted, limit=limit)

    async def similar(
        self, job_id: UUID, wanted: Wanted = NOTHING, *, limit: int = 10
    ) -> Sequence[SimilarExecution]:
        """Executions of other jobs like the last failed attempt of this one, or like its last attempt when none failed.

        Raises NotFound when no attempt has ended, and MemoryUnavailable.
        """
        checked_count(limit, "limit", low=1, high=LIMIT_MAX)
        attempts = await self._attempts.of_job(job_id)
        if not attempts:
            raise NotFound("ended attempt of job", job_id, next_step="ask again when one has ended")
        told = next((each for each in attempts if each.error is not None), attempts[0])
        ((_, vector),) = await self._contexts([told])
        others = replace(wanted, other_than=job_id)
        return await self._vectors.nearest(await self._collection(), vector, others, limit=limit)

    async def store(self, job_id: UUID) -> Sequence[ExecutionContext]:
        """Remember the attempts of one job now, whatever the share. Raises NotFound and MemoryUnavailable."""
        attempts = await self._attempts.of_job(job_id)
        if not attempts:
            raise NotFound("ended attempt of job", job_id, next_step="ask again when one has ended")
        collection = await self._collection()
        await self._vectors.prepare(collection)
        await self._keep(collection, [replace(each, resolves=True) for each in attempts])
        return await self._vectors.of_job(collection, job_id, limit=OF_A_JOB)

    async def contexts(self, job_id: UUID) -> Sequence[ExecutionContext]:
        """What is remembered of a job, the newest attempt first. Raises MemoryUnavailable."""
        return await self._vectors.of_job(await self._collection(), job_id, limit=OF_A_JOB)

    async def status(self) -> MemoryStatus:
        """How the memory stands; of one that cannot be asked, why."""
        horizon = await self._attempts.horizon()
        collection = await self._collection(horizon)
        cursor = await self._attempts.cursor(collection, horizon.era)
        behind, since = await self._behind(horizon, cursor)
        status = MemoryStatus(
            collection=collection,
            embedder=self._embedder_id,
            place=self._vectors.place,
            remembered=0,
            behind=behind,
            behind_s=0.0 if since is None else max(0.0, (horizon.now - since).total_seconds()),
            updated_at=cursor.updated_at if cursor else None,
        )
        try:
            return replace(status, remembered=await self._vectors.count(collection))
        except MemoryUnavailable as error:
            return replace(status, searchable=False, problem=error.message)

    async def behind(self) -> tuple[int, datetime | None]:
        """How many attempts ended and are not remembered yet, counted to a limit, and since when; Qdrant is not asked."""
        horizon = await self._attempts.horizon()
        collection = await self._collection(horizon)
        return await self._behind(horizon, await self._attempts.cursor(collection, horizon.era))

    async def rebuild(self, *, fresh: bool = False) -> MemoryStatus:
        """Have the history read from its beginning again; with `fresh` what is remembered is dropped first, also what history lacks by now."""
        collection = await self._collection()
        if fresh:
            await self._vectors.drop(collection)
        self._prepared = None
        await self._attempts.begin_again(collection)
        return await self.status()

    async def _behind(self, horizon: Horizon, cursor: Cursor | None) -> tuple[int, datetime | None]:
        return await self._attempts.behind(
            cursor or BEGINNING, horizon.ends, sample=self._share.sample, most=BEHIND_MAX
        )

    async def _keep(self, collection: str, attempts: Sequence[EndedAttempt]) -> int:
        if attempts:
            await self._vectors.keep(collection, await self._contexts(attempts))
        jobs = list(dict.fromkeys(each.job_id for each in attempts if each.resolves))
        resolved = await self._attempts.resolved(jobs) if jobs else ()
        await self._vectors.mark_resolved(collection, resolved)
        return sum(len(tokens) for tokens, _ in resolved)

    async def _advance(
        self, collection: str, horizon: Horizon, cursor: Cursor, found: Sequence[EndedAttempt]
    ) -> None:
        if len(found) < AT_ONCE:
            rested = cursor.updated_at is None or horizon.now - cursor.updated_at > REST
            if not found and not rested:
                return
            position, token = horizon.ends, UUID(int=0)
        else:
            position, token = found[-1].position, found[-1].token
        ahead = Cursor(position=position, token=token, remembered=cursor.remembered + len(found))
        await self._attempts.advance(collection, horizon.era, ahead, first=cursor is BEGINNING)

    async def _contexts(
        self, attempts: Sequence[EndedAttempt]
    ) -> list[tuple[ExecutionContext, Sequence[float]]]:
        contexts = [replace(self._redacted(each), embedder=self._embedder_id) for each in attempts]
        vectors = await asyncio.to_thread(vectors_of, self._embedder, contexts, self._kinds)
        return list(zip(contexts, vectors, strict=True))

    def _redacted(self, attempt: EndedAttempt) -> ExecutionContext:
        args = self._redaction.of_json(msgspec.Raw(attempt.args.encode()))
        return context_of(
            attempt,
            args=bytes(args or b"{}").decode(),
            error=self._redaction.of_error(attempt.error),
            cause=self._redaction.of_text(attempt.cause),
        )

    @property
    def _embedder_id(self) -> str:
        return f"{self._embedder.name}/{self._embedder.version}.{WORDING}"

    async def _collection(self, horizon: Horizon | None = None) -> str:
        """One for each system and embedder, so that nothing is compared that cannot be."""
        installation = (horizon or await self._attempts.horizon()).installation
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self._embedder_id)
        return f"perdure-{installation.hex[:12]}-{slug}"


def vectors_of(
    embedder: Embedder, contexts: Sequence[ExecutionContext], kinds: dict[str, Sequence[float]]
) -> list[Sequence[float]]:
    """What stands for each execution; the vectors of `kinds` known so far are taken, and new ones added."""
    said = [words_of(context) for context in contexts]
    new = list(dict.fromkeys(kind for _, kind in said if kind not in kinds))
    vectors = embedder.embed([*new, *(words for words, _ in said)])
    kinds.update(zip(new, vectors, strict=False))
    return [_mixed(vector, kinds[kind]) for vector, (_, kind) in zip(vectors[len(new) :], said, strict=True)]


def _mixed(words: Sequence[float], kind: Sequence[float]) -> list[float]:
    """Mostly the words, and a little of the kind, of length 1."""
    sums = [one + KIND_WEIGHT * other for one, other in zip(words, kind, strict=True)]
    length = math.sqrt(sum(value * value for value in sums)) or 1.0
    return [value / length for value in sums]
