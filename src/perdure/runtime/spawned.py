"""A worker that was started by a program: its orders come on standard input, so that no secret is in its arguments."""

import asyncio
import sys
from uuid import UUID

import msgspec

from perdure.domain.worker import WorkerId
from perdure.runtime.settings import Settings
from perdure.runtime.supervisor import run_worker


def main() -> None:
    """Run the worker until SIGTERM."""
    orders = msgspec.json.decode(sys.stdin.buffer.read())
    settings = Settings(**orders["settings"])
    worker_id = WorkerId(UUID(orders["worker_id"]))
    sys.exit(asyncio.run(run_worker(settings, orders["app"], worker_id=worker_id)))


if __name__ == "__main__":
    main()
