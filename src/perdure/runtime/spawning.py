"""Starts a worker from a program of ours."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec


async def start_worker(
    app: str,
    settings: Mapping[str, object],
    worker_id: UUID,
    *,
    bound: bool,
    output: int | None = None,
    python: Sequence[str] = (),
) -> asyncio.subprocess.Process:
    """Start a worker in a session of its own, out of reach of the terminal's Ctrl-C; it may not be ready yet.

    `bound`: it ends when the thread that starts it ends. `output`: a file or pipe for all that it writes. `python`: the
    command of another interpreter than this one.
    """
    process = await asyncio.create_subprocess_exec(
        *(python or (sys.executable,)),
        "-m",
        "perdure.runtime.spawned",
        stdin=asyncio.subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    parent = os.getpid() if bound else None
    orders = {"app": app, "settings": settings, "worker_id": str(worker_id), "parent": parent}
    if process.stdin is not None:
        process.stdin.write(msgspec.json.encode(orders))
        process.stdin.close()
    return process
