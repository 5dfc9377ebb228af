"""Runs one attempt in this process, by the same runners that workers use."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from perdure.domain.kind import Kind
from perdure.domain.lease import Lease
from perdure.domain.sealing import Keyring
from perdure.domain.settlement import Ending
from perdure.runtime.lines import AttemptLine
from perdure.runtime.runners.loop import LoopRunner
from perdure.runtime.runners.threads import ThreadRunner
from perdure.runtime.sealing import SealedRunner
from perdure.services.execution import ASK_GRACE_S, STOP_GRACE_S, Attempt, StopReason


async def attempt(
    kind: Kind[..., Any], lease: Lease, line_of: Callable[[Attempt], AttemptLine], keyring: Keyring
) -> Ending | None:
    """Run the handler to its end or its time limit; None when it settled the job in its own transaction.

    Handlers of mode `process` run in a thread here, like all that are not async.
    """
    kinds = {lease.kind: kind}
    plain = LoopRunner(kinds, line_of) if kind.mode == "async" else ThreadRunner(kinds, line_of, 1)
    runner = SealedRunner(plain, kinds, keyring)
    ended: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
    running = Attempt(lease, monotonic())
    runner.start(running, lambda _, ending: None if ended.done() else ended.set_result(ending))
    try:
        limit = None if lease.timeout_ms is None else lease.timeout_ms / 1000
        await asyncio.wait({ended}, timeout=limit)
        if not ended.done():
            running.stop_reason = StopReason.TIMED_OUT
            await asyncio.wait({ended}, timeout=STOP_GRACE_S if runner.stop(running) else ASK_GRACE_S)
        return ended.result() if ended.done() else runner.timed_out(running)
    finally:
        if not ended.done():
            running.stop_reason = running.stop_reason or StopReason.DRAINED
            runner.stop(running)
        await runner.close()
