"""Jobs whose arguments and results are sealed: on their way into the database, in the worker, and on their way out."""

import asyncio
from dataclasses import replace
from functools import partial
from uuid import UUID

from msgspec import structs

from perdure.domain.errors import PayloadTooLarge, PerdureError
from perdure.domain.job import NewJob
from perdure.domain.lease import Lease
from perdure.domain.sealing import Keyring, is_sealed
from perdure.domain.settlement import Completed, Ending
from perdure.domain.views import ResultView
from perdure.runtime.runners.endings import Kinds, NotRunnable, after_error
from perdure.services.execution import Attempt, Done, Runner
from perdure.stores.postgres.callers import Encode, encoded

ARGUMENTS, RESULT = "arguments", "result"


class OpenedLease(Lease, frozen=True):
    """A lease whose arguments were sealed, and have been opened: its result is to be sealed."""


def sealed(job: NewJob, keyring: Keyring, *, max_bytes: int) -> NewJob:
    """The job as it is stored. Raises InvalidSettings without a key, PayloadTooLarge, or ExtraMissing."""
    text = keyring.seal(job.args, job.id, ARGUMENTS)
    if len(text) > max_bytes:
        raise PayloadTooLarge(
            ARGUMENTS, f"{len(text)} bytes once they are encrypted; the limit is {max_bytes}"
        )
    return structs.replace(job, args=text)


def opened(view: ResultView, job_id: UUID, keyring: Keyring) -> ResultView:
    """What became of a job, with its result readable. Raises InvalidArguments when no key here opens it."""
    if view.result is None or not is_sealed(view.result):
        return view
    return replace(view, result=keyring.opened(view.result, job_id, RESULT))


def encoding(lease: Lease, keyring: Keyring, max_bytes: int) -> Encode:
    """How the result of this job becomes the text that is stored."""

    def encode(result: object) -> str | None:
        text = encoded(result, max_bytes)
        return None if text is None else _sealed_result(lease, text, keyring)

    return encode if isinstance(lease, OpenedLease) else partial(encoded, max_bytes=max_bytes)


class SealedRunner:
    """A runner that opens the arguments of sealed jobs, and seals their results; other jobs pass through."""

    def __init__(self, runner: Runner, kinds: Kinds, keyring: Keyring) -> None:
        self._runner = runner
        self._kinds = kinds
        self._keyring = keyring

    def start(self, attempt: Attempt, done: Done) -> None:
        lease = attempt.lease
        if not is_sealed(lease.args):
            self._runner.start(attempt, done)
            return
        try:
            args = self._keyring.opened(lease.args, lease.job_id, ARGUMENTS)
        except PerdureError as error:
            ending = after_error(self._kinds[lease.kind], lease, NotRunnable(str(error)))
            asyncio.get_running_loop().call_soon(done, attempt, ending)
            return
        attempt.lease = OpenedLease(**{**structs.asdict(lease), "args": args})
        self._runner.start(attempt, partial(self._ended, done))

    def _ended(self, done: Done, attempt: Attempt, ending: Ending | None) -> None:
        if isinstance(ending, Completed) and ending.result is not None:
            ending = Completed(result=_sealed_result(attempt.lease, ending.result, self._keyring))
        done(attempt, ending)

    def stop(self, attempt: Attempt) -> bool:
        return self._runner.stop(attempt)

    def timed_out(self, attempt: Attempt) -> Ending:
        return self._runner.timed_out(attempt)

    async def close(self) -> None:
        await self._runner.close()


def _sealed_result(lease: Lease, text: str, keyring: Keyring) -> str:
    return keyring.seal(text, lease.job_id, RESULT)
