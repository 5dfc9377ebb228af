"""The pages: readable as they come, harmless whatever stands in them, the same under any path."""

import html
import json
import re
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.showcase import HOSTILE, fill
from tests.support.system import System
from tests.support.web import visitor

PAGES = ("/", "/jobs", "/queues", "/workers", "/dead-letters", "/flows", "/alerts", "/audit")


class Outline(HTMLParser):
    """The tags of a page with their attributes, its text, and whether tags are closed as they were opened."""

    VOID = frozenset(("meta", "link", "input", "path", "rect", "circle", "use", "br"))

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(page: str) -> Outline:
    made = Outline()
    made.feed(page)
    return made


async def pages_of(web: httpx.AsyncClient, shown: dict[str, UUID]) -> dict[str, str]:
    """The HTML of every page, by its path."""
    things = [f"/jobs/{job_id}" for job_id in shown.values()] + [f"/flows/{shown['flow']}"]
    acts = ["/act/replay?filter=", "/act/cancel?filter=state:available", "/act/pause?queue=mail"]
    found = {}
    for path in (*PAGES, *things, *acts, "/jobs?filter=state:failed", "/jobs?filter=colour:red"):
        answer = await web.get(path)
        assert answer.status_code == 200, f"{path}: {answer.text[:2000]}"
        found[path] = answer.text
    return found


async def test_every_page_is_whole_without_inline_style_or_script(
    web: httpx.AsyncClient, database_url: str
) -> None:
    shown = await fill(database_url, hostile=True, minutes=5)
    for path, page in (await pages_of(web, shown)).items():
        found = outline(page)
        assert found.faults == [], path
        assert found.open == [], path
        for tag, attributes in found.tags:
            assert "style" not in attributes, f"{path}: {tag}"
            assert not any(name.startswith("on") for name in attributes), f"{path}: {tag}"
            assert tag != "style", path
            if tag == "script":
                assert attributes.get("src"), path
        ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        assert sum(tag == "h1" for tag, _ in found.tags) == 1, path
        assert len(page) < 600_000, path


async def test_hostile_texts_show_as_text(web: httpx.AsyncClient, database_url: str) -> None:
    shown = await fill(database_url, hostile=True, minutes=2)
    for path, page in (await pages_of(web, shown)).items():
        found = outline(page)
        assert not [tag for tag, _ in found.tags if tag in {"b", "q"} and "bold" in str(_)], path
        assert "<script>alert" not in page, path
        assert "<b>bold" not in page, path
        for character in "\u202e\u202c\u200f\x00":
            assert character not in page, f"{path}: U+{ord(character):04X}"
    page = (await web.get(f"/jobs/{shown['hostile']}")).text
    assert html.escape(HOSTILE[0]) in page
    assert "top-secret-value" not in page


async def test_a_very_large_argument_is_cut_off(web: httpx.AsyncClient, database_url: str) -> None:
    shown = await fill(database_url, hostile=True, minutes=1)
    page = (await web.get(f"/jobs/{shown['big']}")).text
    assert len(page) < 100_000
    assert "more characters" in page


async def test_an_empty_system_says_what_to_do(web: httpx.AsyncClient) -> None:
    for path, said in (
        ("/", "No worker is alive"),
        ("/jobs", "There is no job yet"),
        ("/queues", "No queue is known yet"),
        ("/workers", "perdure worker run"),
        ("/dead-letters", "nothing has given up"),
        ("/flows", "No job depends on another"),
        ("/audit", "Nothing was done"),
    ):
        answer = await web.get(path)
        assert answer.status_code == 200, answer.text
        assert said in answer.text, path


async def test_every_address_stays_below_the_place_where_it_is_mounted(database_url: str) -> None:
    shown = await fill(database_url, minutes=1)
    async with visitor(database_url, root_path="/admin/ops") as client:
        for path, page in (await pages_of(client, shown)).items():
            for tag, attributes in outline(page).tags:
                for name in (
                    "href",
                    "src",
                    "action",
                    "hx-get",
                    "hx-sse:connect",
                    "data-href",
                    "data-completions",
                ):
                    address = attributes.get(name)
                    if address and not address.startswith("#"):
                        assert address.startswith("/admin/ops/"), f"{path}: {tag} {name}={address}"
        assert (await client.get("/static/none.css")).status_code == 404


async def test_every_asset_of_a_page_is_there_and_never_changes(web: httpx.AsyncClient) -> None:
    page = outline((await web.get("/")).text)
    assets = [a.get("src") or a.get("href") for tag, a in page.tags if tag in {"script", "link"}]
    assert len(assets) >= 8
    for asset in assets:
        answer = await web.get(str(asset))
        assert answer.status_code == 200, asset
        assert "immutable" in answer.headers["cache-control"]
        assert re.search(r"\.[0-9a-f]{12}\.", str(asset))


async def test_the_first_page_is_small(web: httpx.AsyncClient, database_url: str) -> None:
    """Everything that the first visit loads is under 100 KB as it travels."""
    await fill(database_url, minutes=60)
    page = await web.get("/")
    total = int(page.headers["content-length"])
    assert page.headers["content-encoding"] == "gzip"
    for tag, attributes in outline(page.text).tags:
        if tag in {"script", "link"}:
            answer = await web.get(str(attributes.get("src") or attributes.get("href")))
            total += int(answer.headers["content-length"])
    assert total < 100_000, total


async def test_an_action_is_shown_asked_for_and_told(web: httpx.AsyncClient, system: System) -> None:
    job_id = await system.dead()
    asked = await web.get("/act/replay", params={"filter": "", "back": "/dead-letters"})
    assert "Replay 1" in asked.text
    assert await system.state(job_id) == "discarded"
    done = await web.post(
        "/act/replay", data={"filter": "", "shown": "1", "reason": "fixed", "back": "/dead-letters"}
    )
    assert done.status_code == 303
    told = await web.get(done.headers["location"])
    assert "Done" in told.text
    assert await system.state(job_id) == "available"
    events = (await web.get("/audit")).text
    assert "fixed" in events


async def test_many_are_changed_only_after_their_count_was_typed(
    web: httpx.AsyncClient, system: System
) -> None:
    await system.add_many(120)
    form = {"filter": "state:available", "shown": "120"}
    for typed in ("", "12", "yes"):
        refused = await web.post("/act/cancel", data={**form, "typed": typed})
        assert refused.status_code == 400
        assert "type 120 to go on" in refused.text
    assert await system.count("available_jobs") == 120
    assert (await web.post("/act/cancel", data={"filter": "state:available"})).status_code == 400
    assert (await web.post("/act/cancel", data={**form, "typed": "120"})).status_code == 303


async def test_what_the_state_of_things_forbids_is_told_on_the_form(
    web: httpx.AsyncClient, system: System
) -> None:
    job_id = await system.add()
    await system.run()
    refused = await web.get(f"/act/retry?job={job_id}")
    assert refused.status_code == 409
    assert "is completed and cannot be retried" in refused.text
    assert (await web.post("/act/retry", data={"job": str(job_id)})).status_code == 409
    assert (await web.post("/act/discard", data={"filter": "", "shown": "0"})).status_code == 400
    assert (await web.get("/act/destroy")).status_code == 404
    assert (await web.get("/act/pause?queue=none")).status_code == 404


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "javascript:alert(1)"])
async def test_an_action_leads_back_to_a_page_of_ours(web: httpx.AsyncClient, back: str) -> None:
    page = outline((await web.get("/act/pause", params={"queue": "x", "back": back})).text)
    addresses = [str(attributes.get("href")) for tag, attributes in page.tags if tag == "a"]
    assert not any(back in address for address in addresses)


async def test_a_filter_that_does_not_parse_is_shown_with_its_fault(web: httpx.AsyncClient) -> None:
    page = (await web.get("/jobs", params={"filter": "colour:red"})).text
    assert "column 1: there is no field &#39;colour&#39;" in page
    assert 'aria-invalid="true"' in page


async def test_a_page_that_is_not_there_says_so_to_people_and_programs(web: httpx.AsyncClient) -> None:
    for_people = await web.get("/nowhere", headers={"accept": "text/html"})
    assert (for_people.status_code, "<h1>" in for_people.text) == (404, True)
    for_programs = await web.get("/nowhere", headers={"accept": "application/json"})
    assert for_programs.json()["status"] == 404
    strange = await web.get("/nowhere", headers={"accept": "*/*"})
    assert strange.status_code == 404


async def test_numbers_of_arguments_are_shown_as_they_are(web: httpx.AsyncClient, system: System) -> None:
    job_id = await system.add(args='{"n": 12345678901234567890123, "x": 1.10}')
    page = html.unescape((await web.get(f"/jobs/{job_id}")).text)
    assert '"n": 12345678901234567890123' in page
    assert '"x": 1.10' in page


async def test_a_jobs_way_is_told_in_words(web: httpx.AsyncClient, system: System) -> None:
    parent = await system.add()
    child = await system.add(after=[parent])
    await system.run()
    await system.run()
    page = (await web.get(f"/jobs/{child}")).text
    assert "pending → available → running → completed" in page


def values(page: str, name: str) -> Any:
    """The data of a chart."""
    found = next(attributes for tag, attributes in outline(page).tags if name in attributes)
    return json.loads(str(found[name]))


async def test_the_chart_and_its_table_say_the_same(web: httpx.AsyncClient, database_url: str) -> None:
    await fill(database_url, minutes=10)
    page = (await web.get("/")).text
    points = values(page, "data-points")
    assert len(points["at"]) == len(points["enqueued"]) == len(points["completed"]) == 59
    rows = re.findall(r"<tr><td>(\d\d:\d\d)</td><td class=\"n\">([\d,]+)</td>", page)
    assert [int(count.replace(",", "")) for _, count in rows[1:]] == list(reversed(points["enqueued"]))
