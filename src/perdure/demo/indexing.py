"""How the words of a file are indexed: work on a queue of its own, which two releases of the job share."""

import asyncio
import re
from pathlib import Path

from perdure import job
from perdure.demo.jobs import QUICKLY

QUEUE = "index"
TAKES_S = 0.5
WORD = re.compile(rb"[A-Za-z_]{3,}")

index_job = job(name="index", queue=QUEUE, priority=2, timeout="1m", retry=QUICKLY)


async def words_of(folder: str, path: str) -> int:
    """Count the different words of a file; the index that they are for takes its time."""
    content = await asyncio.to_thread(Path(folder, path).read_bytes)
    await asyncio.sleep(TAKES_S)
    return len(set(WORD.findall(content)))
