"""Snapshots in the dashboard: what is kept, how two differ, and a restore from the plan to the end."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from perdure.runtime.saving import snapshots_of
from tests.support.restoring import Story, story
from tests.support.system import System
from tests.support.waiting import eventually
from tests.support.web import as_role, visitor, web_settings


@pytest.fixture
async def face(database_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor(database_url, data_dir=tmp_path) as client:
        yield client


async def planned(face: httpx.AsyncClient, told: Story, **form: str) -> tuple[str, str]:
    """The path of a plan to go back to the story's cut, and its page."""
    answer = await face.post("/restores", data={"at": told.cut.at.isoformat(), **form})
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"]
    return path, (await face.get(path)).text


async def test_snapshots_are_listed_and_compared(
    face: httpx.AsyncClient, system: System, database_url: str, tmp_path: Path
) -> None:
    empty = (await face.get("/snapshots")).text
    assert "No snapshots." in empty
    assert "None is taken automatically" in empty
    kept = snapshots_of(web_settings(database_url, data_dir=tmp_path))
    await system.add()
    first = await kept.create()
    await system.add_many(3)
    second = await kept.create()
    half = await kept.create(base=second.id)
    await asyncio.to_thread((tmp_path / "snapshots" / half.id / "manifest.json").unlink)

    async def listed() -> str:
        text = (await face.get("/snapshots")).text
        return text if second.id in text else ""

    page = await eventually(listed)
    assert first.id in page
    assert "half: it is being written" in page
    difference = (await face.get(f"/snapshots?first={first.id}&second={second.id}")).text
    row = re.search(r'<th scope="row">jobs</th>.*?</tr>', difference)
    assert row is not None
    assert re.findall(r'class="n">([^<]+)<', row[0]) == ["1", "4", "+3"]
    wrong = await face.get(f"/snapshots?first={first.id}&second=nonsense")
    assert "is not the id of a snapshot" in wrong.text


async def test_a_restore_is_planned_looked_at_and_carried_out(
    face: httpx.AsyncClient, system: System
) -> None:
    told = await story(system)
    path, page = await planned(face, told, reason="a bad release")
    assert "A plan: nothing has been changed" in page
    assert "was live, has been discarded since" in page
    assert await system.state(told.jobs["failed"]) == "discarded"
    link = re.search(r'href="(/act/restore\?[^"]+)"', page)
    assert link is not None
    asked = (await face.get(link[1].replace("&amp;", "&"))).text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked))
    assert fields["restore"] == path.rpartition("/")[2]
    assert int(fields["shown"]) > 0
    form = {**fields, "grace": "1s"}
    assert "say why" in (await face.post("/act/restore", data={**form, "reason": ""})).text
    other = await face.post("/act/restore", data={**form, "reason": "deploy", "digest": "0" * 16})
    assert other.status_code >= 400
    assert await system.state(told.jobs["failed"]) == "discarded", (
        "another plan than the one that was looked at"
    )
    assert (await face.post("/act/restore", data={**form, "reason": "deploy"})).status_code == 303

    async def ended() -> bool:
        return "<h2>Done</h2>" in (await face.get(path)).text

    await eventually(ended)
    assert await system.state(told.jobs["failed"]) == "scheduled"
    assert "deploy" in (await face.get("/audit?event=restore*")).text
    assert "is done already" in (await face.get(link[1].replace("&amp;", "&"))).text


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "either a time or a snapshot"),
        ({"at": "yesterday-ish"}, "yesterday-ish"),
        ({"at": "1h", "graph": "x"}, "is not the id of a job"),
        ({"at": "1h", "policy": "hope"}, "there is no policy"),
    ],
)
async def test_what_cannot_be_meant_is_told_and_the_form_stays(
    face: httpx.AsyncClient, form: dict[str, str], field: str
) -> None:
    answer = await face.post("/restores", data={**form, "queue": "<b>media"})
    assert 400 <= answer.status_code < 500
    assert field in answer.text
    assert "&lt;b&gt;media" in answer.text


async def test_only_an_admin_may_restore(guarded: httpx.AsyncClient) -> None:
    assert (await guarded.get("/snapshots", headers=as_role("viewer"))).status_code == 200
    for role, code in (("viewer", 403), ("operator", 403), ("admin", 400)):
        answer = await guarded.post("/restores", data={}, headers=as_role(role))
        assert answer.status_code == code, role


async def test_programs_plan_and_carry_out_by_the_digest(face: httpx.AsyncClient, system: System) -> None:
    told = await story(system)
    api = "/api/v1/restores"
    at = {"at": told.cut.at.isoformat(), "kinds": ["k.failed"], "reason": "a bad release"}
    plan = (await face.post(api, json=at)).json()
    assert (plan["phase"], [case["jobs"] for case in plan["outcomes"]]) == ("planned", [1])
    place = f"{api}/{plan['id']}"
    (item,) = (await face.get(f"{place}/jobs")).json()
    assert (item["job_id"], item["action"]) == (str(told.jobs["failed"]), "requeue")
    dry = await face.post(f"{place}/apply", json={"digest": plan["digest"], "dry_run": True})
    assert (dry.status_code, dry.json()["phase"]) == (200, "planned")
    wrong = await face.post(f"{place}/apply", json={"digest": "another"})
    assert wrong.status_code == 409, wrong.text
    assert (await face.post(f"{place}/apply", json={"digest": plan["digest"]})).status_code == 200

    async def ended() -> bool:
        return bool((await face.get(place)).json()["phase"] == "done")

    await eventually(ended)
    assert await system.state(told.jobs["failed"]) == "scheduled"
    undoing = (await face.post(f"{place}/undo", json={"reason": "it was right"})).json()
    assert (undoing["phase"], undoing["undoes"]) == ("planned", plan["id"])
    assert [one["id"] for one in (await face.get(api)).json()] == [undoing["id"], plan["id"]]
    assert (await face.get("/api/v1/snapshots")).json() == {"snapshots": [], "half": []}
