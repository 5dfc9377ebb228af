"""The release of the demonstration's jobs that is well; all of its workers but one run it."""

from perdure.demo.indexing import index_job, words_of
from perdure.demo.jobs import app

__all__ = ["app", "index"]


@index_job
async def index(folder: str, path: str) -> int:
    """Index the words of one file, and say how many there are."""
    return await words_of(folder, path)
