"""Advice on kinds over HTTP."""

import httpx

from perdure.domain.following import InForce, Wish
from perdure.stores.postgres.following import PostgresFollowing
from tests.support.attempts import went
from tests.support.system import System
from tests.web.test_api import API


async def test_a_kind_tells_what_its_history_advises_and_what_it_goes_by(
    web: httpx.AsyncClient, system: System
) -> None:
    await went(system)
    told = (await web.get(f"{API}/kinds/app.work/advice")).json()
    assert (told["advice"]["failure"]["part"], told["follows"]) == (20, None)
    store = PostgresFollowing(system.database)
    await store.wish([Wish(kind="app.work", timeout_least_s=2.0, timeout_most_s=300.0)])
    await store.change("app.work", InForce(), InForce(timeout_s=6.0, why="it went well"), actor="advice")
    follows = (await web.get(f"{API}/kinds/app.work/advice?within=1h")).json()["follows"]
    assert (follows["now"]["timeout_s"], follows["wish"]["timeout_least_s"]) == (6.0, 2.0)
    assert (await web.get(f"{API}/kinds/app.none/advice")).status_code == 404
    assert (await web.get(f"{API}/kinds/app.work/advice?within=0s")).status_code == 400
