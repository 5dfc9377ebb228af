"""How fast work goes while something keeps dead rows from being removed."""

from contextlib import AsyncExitStack
from statistics import median
from time import monotonic

from perdure.runtime.new_ids import new_id
from perdure.stores.postgres.diagnosis import PostgresDiagnosis
from perdure.torture import jobs
from perdure.torture.place import Place
from perdure.torture.scenario import Scenario, story

ROUND, ROUNDS = 4_000, 9
FOR_S = 60.0
LEAST_SHARE = 0.8
LEAST_SHARE_WITHOUT_VACUUM = 0.5
SCANS = 4


async def jobs_per_s(place: Place) -> float:
    """Jobs a second of one round, whatever else waits: they are stored while the queue is paused, and worked off at once."""
    act, since = (await place.app.stores()).act, new_id()
    await act.pause("default", actor="torture")
    await place.load.store([place.app.prepare(jobs.nap, 0) for _ in range(ROUND)])
    began = monotonic()
    await act.resume("default", actor="torture")
    await place.drained(since)
    return ROUND / (monotonic() - began)


async def keeps_its_pace(place: Place, least: float) -> None:
    """The last of many rounds are about as fast as the first; a remark tells both."""
    before = median([await jobs_per_s(place) for _ in range(ROUNDS)])
    until, rates = monotonic() + FOR_S, [0.0]
    while monotonic() < until:
        rates.append(await jobs_per_s(place))
    after = median(rates[-ROUNDS:])
    place.remarks.append(
        f"{before:,.0f} jobs/s before, {after:,.0f} after {FOR_S:g} s and {len(rates) * ROUND:,} jobs"
    )
    place.expect(after >= least * before, f"{after:,.0f} jobs/s are less than {least:.0%} of {before:,.0f}")


@story(
    Scenario(
        name="pinned-for-minutes",
        numbers=(20,),
        produced="a transaction stays open for a minute at full load",
        holds="at least 80 % of the pace stay; `perdure doctor` would name the session",
        long=True,
    )
)
async def pinned_for_minutes(place: Place) -> None:
    await place.host()
    await place.warm()
    await jobs_per_s(place)
    async with place.faults.horizon_pinned():
        await keeps_its_pace(place, LEAST_SHARE)
        facts = await PostgresDiagnosis(place.database).server()
        place.expect(
            "torture: an open transaction" in facts.oldest_transaction,
            f"the doctor names {facts.oldest_transaction!r}",
        )


@story(
    Scenario(
        name="overlapping-scans",
        numbers=(21,),
        produced="four transactions that read the waiting jobs stay open, each begun a little later, for a minute at full load",
        holds="at least 80 % of the pace stay",
        long=True,
    )
)
async def overlapping_scans(place: Place) -> None:
    await place.host()
    await place.warm()
    await jobs_per_s(place)
    async with AsyncExitStack() as open_ones:
        for _ in range(SCANS):
            await open_ones.enter_async_context(place.faults.horizon_pinned())
            await jobs_per_s(place)
        await keeps_its_pace(place, LEAST_SHARE)


@story(
    Scenario(
        name="autovacuum-off",
        numbers=(22,),
        produced="a server with autovacuum off, for a minute at full load",
        holds="the leader has dead rows removed by itself, so that at least half the pace stays",
        long=True,
        postgres={"autovacuum": "off"},
    )
)
async def autovacuum_off(place: Place) -> None:
    await place.host()
    await place.warm()
    await jobs_per_s(place)
    await keeps_its_pace(place, LEAST_SHARE_WITHOUT_VACUUM)
