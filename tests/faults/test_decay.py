"""Workers that decay: the run of `perdure torture health` is real, and loses no job."""

import asyncio
from pathlib import Path

import pytest

from perdure.stores.postgres.samples import PostgresSamples
from perdure.torture.decay import KILL, SETTINGS, SOUND, Fared, play
from perdure.torture.place import Place
from perdure.torture.playing import stage
from perdure.torture.run import ground
from tests.support.command import Command

PATIENCE_S = 240.0


@pytest.mark.timeout(PATIENCE_S)
def test_a_leak_ends_in_a_crash_a_kill_is_noticed_and_no_job_is_lost() -> None:
    with ground(print) as (programs, image), stage(programs, image, {}, disk_mb=None) as (servers, _):

        async def playing() -> tuple[list[Fared], list[str], int]:
            async with Place(servers, seed=1, rate=0, settings=SETTINGS) as place:
                fared = await play(place, ("memory leak", KILL, SOUND), ramp_s=6.0, warm_s=3.0)
                samples = await PostgresSamples(place.database).latest(fared[0].worker_id, limit=1000)
                return fared, await place.judged(), sum(one.crashed for one in samples)

        (leaking, killed, sound), broken, crashes = asyncio.run(playing())
    assert broken == []
    assert crashes >= 1
    assert killed.detected_s is not None
    assert killed.detected_s < 60
    assert len(sound.looks) > 5
    assert all(0 <= look.probability <= 1 for one in (leaking, killed, sound) for look in one.looks)


def test_a_run_of_no_runs_is_refused(tmp_path: Path) -> None:
    assert Command(tmp_path, {})("torture", "health", "--runs", "0").code == 2
