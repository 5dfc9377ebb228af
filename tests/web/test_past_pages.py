"""Looking back in the browser: each page as it was, in which nothing can be done; and workers, whose jobs are moved."""

import re
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest

from perdure.domain.activity import EventSubject
from perdure.ports import By
from perdure.services.activity import Activity
from perdure.stores.postgres.activity import PostgresActivity
from tests.support.system import System
from tests.support.web import as_role

PAGES = ("/", "/jobs", "/queues", "/workers", "/dead-letters", "/audit")
PRESENT = ("/flows", "/snapshots", "/alerts", "/runbooks", "/database")


async def then(system: System) -> str:
    """A moment at which there is one failed job, one dead letter, one event and a worker; more comes after it."""
    await system.worker("early")
    await system.dead("app.work", message="early trouble")
    await system.add("app.early")
    activity = Activity(PostgresActivity(system.database))
    await activity.record("worker_cordoned", By(actor="ada"), EventSubject())
    await system.past.mark()
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await system.worker("late")
    await system.dead("app.work", message="late trouble")
    await system.add("app.late")
    await activity.record("worker_drained", By(actor="bob"), EventSubject())
    return moment


async def test_pages_show_how_it_was_and_offer_nothing_to_do(web: httpx.AsyncClient, system: System) -> None:
    moment = await then(system)
    shown = {path: (await web.get(path, params={"as_of": moment})).text for path in PAGES}
    for path, text in shown.items():
        assert "This is the past" in text, path
        assert "hx-sse:connect" not in text, path
        assert "/act/" not in text, path
        assert "worker cordoned" in text, path
        for link in re.findall(r'href="(/(?:jobs|queues|workers|dead-letters|audit)[^"]*)"', text):
            assert "as_of=" in link or link == path, (path, link)
    for path, early, late in (
        ("/jobs", "app.early", "app.late"),
        ("/workers", ">early<", ">late<"),
        ("/dead-letters", "early trouble", "late trouble"),
        ("/audit", ">ada<", ">bob<"),
        ("/", "early trouble", "late trouble"),
    ):
        assert early in shown[path], path
        assert late not in shown[path], path
        assert late in (await web.get(path)).text, path


async def test_one_job_is_shown_as_it_was(web: httpx.AsyncClient, system: System) -> None:
    job_id = await system.add("app.work")
    await system.past.mark()
    moment = datetime.now(UTC).isoformat()
    await system.run()
    path = f"/jobs/{job_id}"
    assert "No attempt has ended yet" in (await web.get(path, params={"as_of": moment})).text
    assert "No attempt has ended yet" not in (await web.get(path)).text


async def test_pages_of_the_present_say_so_and_lead_back(web: httpx.AsyncClient, system: System) -> None:
    moment = await then(system)
    for path in PRESENT:
        text = (await web.get(path, params={"as_of": moment})).text
        assert "This page shows the present" in text, path
        assert re.search(r'href="/jobs\?as_of=', text), path


@pytest.mark.parametrize(("asked", "status"), [("2h", 400), ("nonsense", 400), ("9999-01-01T00:00Z", 400)])
async def test_a_moment_that_is_not_remembered_is_refused_with_what_is(
    web: httpx.AsyncClient, system: System, asked: str, status: int
) -> None:
    await system.past.mark()
    for path in PAGES:
        answer = await web.get(path, params={"as_of": asked}, headers={"accept": "text/html"})
        if path != "/audit" or asked == "nonsense":  # the trail goes back as far as it is kept
            assert answer.status_code == status, path
            assert re.search(r"earliest|neither a time|not come yet", answer.text), path


async def two_workers(system: System) -> UUID:
    """A worker that runs a job which another knows, and one which nobody else does."""
    full = await system.worker("full", kinds=("app.work", "app.rare"))
    await system.worker("other")
    await system.add()
    await system.add("app.rare")
    await system.claim(full)
    await system.claim(full, kind="app.rare")
    return full


async def test_workers_are_cordoned_and_evacuated_after_a_look_at_where_their_jobs_go(
    web: httpx.AsyncClient, system: System
) -> None:
    full = await two_workers(system)
    page = (await web.get("/workers")).text
    assert "What takes from it" in page
    assert "Fails within" in page
    for verb, changed in (("cordon", True), ("uncordon", False)):
        asked = await web.get(f"/act/{verb}", params={"worker": str(full), "back": "/workers"})
        assert asked.status_code == 200
        done = await web.post(f"/act/{verb}", data={"worker": str(full), "reason": "by hand"})
        assert done.status_code == 303
        assert await system.count("workers", "id = $1 AND cordoned_at IS NOT NULL", full) == int(changed)
    preview = (await web.get("/act/evacuate", params={"worker": str(full)})).text
    assert "1 app.work of default to other" in preview
    assert "1 app.rare of default to nobody yet" in preview
    assert "1 of them will wait" in preview
    assert await system.count("workers", "id = $1 AND evacuate_by IS NULL", full) == 1
    refused = await web.post("/act/evacuate", data={"worker": str(full), "grace": "soon"})
    assert refused.status_code == 400
    assert (await web.post("/act/evacuate", data={"worker": str(full), "grace": "1m"})).status_code == 303
    assert await system.count("workers", "id = $1 AND evacuate_by > now() + interval '30 seconds'", full) == 1


@pytest.mark.parametrize("verb", ["cordon", "uncordon", "evacuate"])
async def test_a_viewer_moves_nothing(guarded: httpx.AsyncClient, system: System, verb: str) -> None:
    worker = await system.worker()
    for role, status in (("viewer", 403), ("operator", 303)):
        answer = await guarded.post(f"/act/{verb}", data={"worker": str(worker)}, headers=as_role(role))
        assert answer.status_code == status, answer.text[:300]


async def test_the_same_is_done_over_http(web: httpx.AsyncClient, system: System) -> None:
    full = await two_workers(system)
    base = f"/api/v1/workers/{full}"
    assert 0 <= (await web.get(f"{base}/prediction")).json()["probability"] <= 1
    assert (await web.post(f"{base}/cordon", json={"dry_run": True})).json()["changed"] is False
    assert (await web.post(f"{base}/cordon", json={})).json()["changed"] is True
    assert (await web.post(f"{base}/uncordon", json={})).json()["changed"] is True
    plan = (await web.post(f"{base}/evacuate", json={"dry_run": True})).json()
    assert {move["kind"]: move["destinations"] for move in plan["moves"]} == {
        "app.work": ["other"],
        "app.rare": [],
    }
    assert (await web.post(f"{base}/evacuate", json={"grace": "1m"})).json()["changed"] is True
    assert (await web.post(f"{base}/uncordon", json={})).status_code == 409
