"""Hosts and processes that are killed, frozen, drained, or brought down by their own jobs."""

from perdure.testing import faults
from perdure.torture import jobs
from perdure.torture.place import Place
from perdure.torture.scenario import Scenario, fault

FREEZE_S = 8.0
"""Longer than the silence after which a worker is declared dead."""


@fault(
    Scenario(
        name="kill-process",
        numbers=(1, 3),
        produced="SIGKILL for a process of a worker that runs jobs, has claimed some ahead and holds results that are not stored",
        holds="its supervisor replaces it at once; what ran is run again alone, what had not started is not blamed",
    )
)
async def kill_process(place: Place) -> None:
    place.a_process_of(place.any_host()).kill()


@fault(
    Scenario(
        name="kill-host",
        numbers=(1, 2, 3),
        produced="SIGKILL for a supervisor and all its processes, as when a machine loses its power",
        holds="its jobs run elsewhere after the silence of 5 s that these workers are set to; what handlers did in their own "
        "transaction is not done twice",
        within_s=45,
    )
)
async def kill_host(place: Place) -> None:
    place.kill(place.any_host())
    place.struck()
    await place.host()


@fault(
    Scenario(
        name="kill-supervisor",
        numbers=(1,),
        produced="SIGKILL for a supervisor alone",
        holds="its processes end with it instead of working on unwatched",
        within_s=45,
    )
)
async def kill_supervisor(place: Place) -> None:
    host = place.any_host()
    _, *others = host.tree()
    host.tree()[0].kill()
    await host.worker.process.wait()

    async def gone() -> bool:
        return not any(faults.is_alive(process) for process in others)

    await place.until(gone, what="its processes end", within_s=10)
    await place.host()


@fault(
    Scenario(
        name="freeze-host",
        numbers=(5,),
        produced="SIGSTOP for a whole host, SIGCONT after 8 s; it is declared dead after 5 s",
        holds="its late results are refused and recorded; it starts anew under another id",
        within_s=45,
    )
)
async def freeze_host(place: Place) -> None:
    host = place.any_host()
    with faults.transient_failure(host.worker):
        await place.pause(FREEZE_S)


@fault(
    Scenario(
        name="freeze-supervisor",
        numbers=(5, 31),
        produced="SIGSTOP for the supervisor that leads, SIGCONT after 8 s: two leaders for a moment",
        holds="another leads meanwhile; what the old one still wants is harmless, for its term is over",
    )
)
async def freeze_supervisor(place: Place) -> None:
    leader = await place.leader()
    with faults.pause_heartbeat(leader.worker):
        await place.pause(FREEZE_S)


@fault(
    Scenario(
        name="rolling-restart",
        numbers=(4, 43),
        produced="SIGTERM for one host after the other, each replaced by a new one",
        holds="what runs longer than the grace is given back at once and burns no attempt",
    )
)
async def rolling_restart(place: Place) -> None:
    for host in place.living:
        await place.host()
        await host.worker.stop()


@fault(
    Scenario(
        name="clock-jump",
        numbers=(33,),
        produced="two hosts join whose processes have a wall clock (as Python tells it) an hour ahead and an hour behind; both are "
        "killed after 5 s",
        holds="leases and deadlines are moments of the database and spans of the monotonic clock, so nothing runs early or twice",
        within_s=45,
    )
)
async def clock_jump(place: Place) -> None:
    strangers = [
        await place.host(app=f"perdure.torture.{name}") for name in ("an_hour_ahead", "an_hour_behind")
    ]
    await place.load.store([place.app.prepare(jobs.follows, 5) for _ in range(20)])
    await place.pause(5)
    for host in strangers:
        place.kill(host)
