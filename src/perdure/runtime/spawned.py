"""A worker that was started by a program: its orders come on standard input, so that no secret is in its arguments."""

import asyncio
import os
import sys
from uuid import UUID

import msgspec

from perdure.domain.errors import PerdureError
from perdure.domain.worker import WorkerId
from perdure.runtime.orphans import die_with_parent
from perdure.runtime.settings import Settings
from perdure.runtime.supervisor import run_worker


def main() -> int:
    """Run the worker until SIGTERM."""
    os.environ["PYTHONUNBUFFERED"] = "1"  # what handlers print is seen when they print it
    orders = msgspec.json.decode(sys.stdin.buffer.read())
    if orders["parent"] is not None:
        die_with_parent(orders["parent"])
    settings = Settings(**orders["settings"])
    worker_id = WorkerId(UUID(orders["worker_id"]))
    try:
        return asyncio.run(run_worker(settings, orders["app"], worker_id=worker_id))
    except PerdureError as error:
        sys.stderr.write(f"perdure: {error.message}\n  next: {error.next_step}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
