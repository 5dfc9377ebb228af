"""The specification's operations on state, by name; they call the same services as everything else."""

from perdure.domain.advice import Advice
from perdure.domain.durations import Duration, parse_duration
from perdure.runtime.advising import advising
from perdure.runtime.memory_operations import MemoryOperations
from perdure.runtime.restore_operations import RestoreOperations
from perdure.runtime.snapshot_operations import SnapshotOperations
from perdure.services.advise import WEEK


class StateOperations(SnapshotOperations, RestoreOperations, MemoryOperations):
    """Snapshots, restores in place, the memory of executions with what it advises, and the way to the shared memory."""

    async def advise(self, kind: str, *, within: Duration = WEEK) -> Advice:
        """What the newest attempts of a kind within a span say: durations, failures and their causes, time-out, retry delay, workers.

        Each with how many attempts say so; what too few tell of is None. Nothing is changed. Raises NotFound and InvalidOption.
        """
        stores = await self._app.stores()
        span = parse_duration(within, "within")
        return await advising(stores.database, self._app.settings).kind(kind, within=span)
