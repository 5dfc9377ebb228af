"""Jobs that bring their process down, and processes that die at the worst moment of a job."""

from typing import Any

from perdure.runtime.prepared import Prepared
from perdure.testing import faults
from perdure.torture import jobs
from perdure.torture.memory import limited_memory
from perdure.torture.place import CannotBePlayed, Place
from perdure.torture.scenario import Scenario, story

NEIGHBOURS = 60
HELD = 8


async def _ends_alone(place: Place, poison: Prepared[Any], how: str) -> None:
    """A job that kills its process is given up with the cause; all others complete."""
    (job_id,) = await place.load.store([poison])
    others = await place.load.store([place.app.prepare(jobs.nap, 20) for _ in range(NEIGHBOURS)])

    async def given_up() -> str:
        return await place.evidence.letter(job_id)

    cause = await place.until(given_up, what="the job that kills is given up")
    place.expect(how in cause and "3 times while running alone" in cause, f"the cause is another: {cause}")
    await place.drained()
    outcomes = await place.evidence.outcomes()
    place.expect(outcomes.get("completed") == len(others), f"not all others completed: {outcomes}")


@story(
    Scenario(
        name="segfault",
        numbers=(7,),
        produced="a handler reads what is no memory, every time, beside 60 innocent jobs",
        holds="it is given up after three crashes alone, with the signal as cause; all others complete",
    )
)
async def segfault(place: Place) -> None:
    await place.host()
    await _ends_alone(place, place.app.prepare(jobs.segfault), "SIGSEGV")


@story(
    Scenario(
        name="out-of-memory",
        numbers=(7,),
        produced="a handler takes memory without end and the kernel kills its process (a memory cgroup of 400 MB per host)",
        holds="as for a segmentation fault",
        root=True,
    )
)
async def out_of_memory(place: Place) -> None:
    host = await place.host(processes=1)
    with limited_memory(host.worker.process.pid, mb=400) as limit:
        if limit is None:
            raise CannotBePlayed("there is no memory cgroup here that may be written")
        await _ends_alone(place, place.app.prepare(jobs.gluttony, 4000), "SIGKILL")


@story(
    Scenario(
        name="kill-in-transaction",
        numbers=(2,),
        produced="SIGKILL for a host whose handlers have written to the database and not yet committed",
        holds="what they wrote is undone with them; each runs again and leaves its mark exactly once",
        within_s=45,
    )
)
async def kill_in_transaction(place: Place) -> None:
    host = await place.host(prefetch_max=1)
    effects = [place.app.prepare(jobs.effect, place.servers.database_url, 1500) for _ in range(HELD)]
    await place.load.store(effects)
    await place.holds(host, HELD)
    await place.pause(0.5)
    faults.crash(host.worker)
    place.struck()
    await place.host()
    await place.recover()
    outcomes = await place.evidence.outcomes()
    place.expect(outcomes.get("crashed", 0) >= 1, f"nothing was under way: {outcomes}")


@story(
    Scenario(
        name="kill-with-results-waiting",
        numbers=(3,),
        produced="SIGKILL for a process that has finished jobs whose results cannot be stored, for the history is locked",
        holds="what it had finished runs again; no job is lost or counted twice",
    )
)
async def kill_with_results_waiting(place: Place) -> None:
    host = await place.host(processes=1, concurrency=5)
    async with place.faults.history_held():
        await place.load.store([place.app.prepare(jobs.nap, 1) for _ in range(100)])
        await place.holds(host, HELD)
        host.tree()[1].kill()
        await place.pause(0.5)
    place.struck()
    await place.recover()
    repeated = (await place.evidence.outcomes()).get("interrupted", 0) + (
        await place.evidence.outcomes()
    ).get("crashed", 0)
    place.expect(repeated >= 1, "nothing that had finished was waiting")
