"""Lists the queues that a worker serves before they have had a job, so that they can be paused."""

from collections.abc import Sequence

from perdure.stores.postgres.workers import PostgresWorkers


class KnownQueues:
    """Tries again until it has worked; a worker runs as well without."""

    def __init__(self, workers: PostgresWorkers, names: Sequence[str]) -> None:
        self._workers = workers
        self._names = names
        self._made = False

    async def make(self) -> None:
        """One try, where one is still needed. Raises DatabaseUnavailable."""
        if not self._made:
            self._made = await self._workers.make_known(self._names)
