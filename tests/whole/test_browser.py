"""The dashboard in a real browser: nothing breaks the policy, everybody can use it, and updates disturb nobody."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, expect

from perdure.ports import By
from perdure.runtime.loops import every
from perdure.stores.postgres.restores import PostgresCuts
from perdure.surfaces.web.serve import Server, served
from tests.support.browser import SIZES, browser, needs_chromium
from tests.support.restoring import in_place
from tests.support.showcase import fill
from tests.support.system import System, system_on
from tests.support.web import web_settings

pytestmark = [
    pytest.mark.skipif(**needs_chromium()),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("bare"),
]
AXE = (Path(__file__).parents[1] / "web" / "vendor" / "axe-4.14.1.min.js").read_text("utf-8")
ALL_RULES = {
    "type": "tag",
    "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
RULES_OF_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
"""All that another theme can break."""
SOON_MS = 40_000
expect.set_options(timeout=SOON_MS)


@asynccontextmanager
async def opened(
    one: Browser, *, size: str = "desktop", javascript: bool = True
) -> AsyncIterator[tuple[Page, list[str]]]:
    """A page in a context of its own, and what went wrong in it."""
    width, height = SIZES[size]
    context = await one.new_context(
        viewport={"width": width, "height": height},
        color_scheme="light",
        java_script_enabled=javascript,
        bypass_csp=False,
    )
    page = await context.new_page()
    page.set_default_timeout(SOON_MS)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    traffic: list[str] = []
    page.on("request", lambda request: traffic.append(f"asks {request.url}"))
    page.on("response", lambda response: traffic.append(f"got {response.status} {response.url}"))
    page.on("requestfailed", lambda request: traffic.append(f"failed {request.failure} {request.url}"))
    try:
        yield page, faults
    finally:
        print("the page complained of", faults, "after", *traffic, sep="\n  ")  # noqa: T201 - shown with a failure
        await context.close()


def paths(shown: dict[str, UUID]) -> list[str]:
    return [
        "/workers?as_of=1s",
        f"/jobs/{shown['retryable']}?as_of=1s",
        *(f"/{page}?as_of=1s" for page in ("", "jobs", "queues", "dead-letters", "flows", "audit")),
        "/",
        "/jobs",
        f"/jobs/{shown['retryable']}",
        f"/jobs/{shown['running']}",
        f"/jobs/{shown['hostile']}",
        "/queues",
        "/workers",
        "/dead-letters",
        "/flows",
        f"/flows/{shown['flow']}",
        "/database",
        "/snapshots",
        f"/restores/{shown['restore']}",
        f"/act/restore?restore={shown['restore']}",
        "/alerts",
        "/runbooks",
        "/runbooks/PerdureNoWorkers?target=media",
        "/audit",
        "/act/replay?filter=",
        "/jobs?filter=colour:red",
    ]


async def violations(page: Page, rules: Mapping[str, object]) -> list[str]:
    """What axe finds, each with where."""
    found = await page.evaluate(
        "async (rules) => (await axe.run(document, {runOnly: rules, resultTypes: ['violations']})).violations"
        ".map((one) => `${one.id}: ${one.help} (${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')})`)",
        rules,
    )
    return list(found)


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[tuple[Server, dict[str, UUID]]]:
    """A served system with something of everything."""
    shown = await fill(database_url, hostile=True, minutes=20)
    async with system_on(database_url) as filled:
        await filled.past.mark()
        cut = await PostgresCuts(filled.database).of_time(datetime.now(UTC))
        shown["restore"] = (await in_place(filled).plan(cut, By(actor="ada"))).id
        remembering = asyncio.create_task(every(1.0, filled.past.mark, name="moments"))
        async with served(web_settings(database_url, web_port=0)) as server:
            yield server, shown
        remembering.cancel()


@pytest.mark.timeout(
    600
)  # twice as long as usual: two looks at each of thirty pages, by a browser that shares two cores
@pytest.mark.parametrize("size", SIZES)
async def test_every_page_passes_axe_and_the_policy(stage: tuple[Server, dict[str, UUID]], size: str) -> None:
    """In the dark as in the light."""
    server, shown = stage
    found: dict[str, list[str]] = {}
    async with browser() as one, opened(one, size=size) as (page, faults):
        await page.add_init_script(AXE)
        for path in paths(shown):
            await page.goto(server.address.rstrip("/") + path)
            wider = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            wrong = [f"{wider} px wider than the window"] if wider > 0 else []
            wrong += await violations(page, ALL_RULES)
            await page.emulate_media(color_scheme="dark")
            wrong += [f"in the dark: {one}" for one in await violations(page, RULES_OF_COLOURS)]
            await page.emulate_media(color_scheme="light")
            if wrong := [*wrong, *faults]:
                found[path] = wrong
            faults.clear()
    assert not found, "\n".join(f"{path}: {wrong}" for path, wrong in found.items())


async def test_every_page_can_be_read_without_a_script(stage: tuple[Server, dict[str, UUID]]) -> None:
    server, shown = stage
    async with browser() as one, opened(one, javascript=False) as (page, faults):
        for path in paths(shown):
            await page.goto(server.address.rstrip("/") + path)
            await expect(page.locator("h1")).to_be_visible()
        await page.goto(f"{server.address}jobs?filter=state:running")
        assert await page.locator("tbody tr").count() == 50
        await page.get_by_role("combobox", name="Filter").fill("state:scheduled")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.locator("tbody tr")).to_have_count(4)
        await page.goto(f"{server.address}queues")
        await page.get_by_label("Queue mail").get_by_role("button", name="Pause").click()
        await page.get_by_label("Why").fill("by hand")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("heading", name="Done")).to_be_visible()
        assert faults == []


async def test_live_updates_keep_what_somebody_types_and_where_they_are(
    database_url: str, system: System
) -> None:
    await system.add("app.first")
    async with (
        served(web_settings(database_url, web_port=0)) as server,
        browser() as one,
        opened(one) as (page, faults),
    ):
        await page.goto(f"{server.address}jobs")
        await page.get_by_role("combobox", name="Filter").fill("kind:app.fi")
        await page.evaluate("getSelection().selectAllChildren(document.querySelector('tbody th a'))")
        row = page.locator("tbody tr").filter(has_text="app.first")
        await row.evaluate("(element) => { element.marked = true; }")
        await page.get_by_role("combobox", name="Filter").focus()
        for number in range(3):
            await system.add(f"app.more{number}")
            await expect(page.locator("tbody tr").filter(has_text=f"app.more{number}")).to_be_visible(
                timeout=SOON_MS
            )
        assert await row.evaluate("(element) => element.marked") is True
        assert await page.get_by_role("combobox", name="Filter").input_value() == "kind:app.fi"
        assert await page.evaluate("document.activeElement.id") == "filter"
        assert faults == []


async def test_a_page_whose_parts_come_late_or_whose_first_connection_fails_comes_alive_all_the_same(
    database_url: str, system: System
) -> None:
    failed = list[str]()

    async def fail_once(route: Any) -> None:
        if failed:
            await route.continue_()
        else:
            failed.append(route.request.url)
            await route.abort()

    async def come_late(route: Any) -> None:
        await asyncio.sleep(1)  # the network is slow: what does not wait for it has begun by now
        await route.continue_()

    async with (
        served(web_settings(database_url, web_port=0)) as server,
        browser() as one,
        opened(one) as (page, _),
    ):
        await page.route(re.compile("/htmx-sse"), come_late)
        await page.route(re.compile("/live\\?"), fail_once)
        await page.goto(f"{server.address}jobs")
        await expect(page.locator("[data-pulse]")).to_be_visible(timeout=SOON_MS)
        await system.add("app.first")
        await expect(page.locator("tbody tr")).to_have_count(1, timeout=SOON_MS)
        assert len(failed) == 1


async def test_a_paused_page_stays_as_it_is(database_url: str, system: System) -> None:
    await system.add("app.first")
    async with (
        served(web_settings(database_url, web_port=0)) as server,
        browser() as one,
        opened(one) as (page, _),
    ):
        await page.goto(f"{server.address}jobs")
        await expect(page.locator("[data-pulse]")).to_be_visible(timeout=SOON_MS)
        await page.keyboard.press(".")
        await expect(page.locator("[data-pulse]")).to_contain_text("Paused", timeout=SOON_MS)
        await system.add("app.second")
        async with page.expect_response(re.compile("/jobs")):
            await page.evaluate("fetch('/api/v1/jobs')")
        await asyncio.sleep(3)  # longer than the pace of the updates: none may come
        assert await page.locator("tbody tr").count() == 1
        await page.keyboard.press(".")
        await system.add("app.third")
        await expect(page.locator("tbody tr")).to_have_count(3, timeout=SOON_MS)


async def test_the_keyboard_suffices(stage: tuple[Server, dict[str, UUID]]) -> None:
    server, shown = stage
    async with browser() as one, opened(one) as (page, faults):
        await page.goto(server.address)
        await page.keyboard.press("g")
        await page.keyboard.press("j")
        await expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()
        await page.wait_for_load_state()
        await page.keyboard.press("/")
        await expect(page.locator("#filter")).to_be_focused()
        await page.keyboard.type("state:dis")
        await expect(page.get_by_role("option", name="state:discarded")).to_be_visible()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile("state%3Adiscarded"))
        await page.wait_for_load_state()
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await expect(page.locator("tr.chosen")).to_have_count(1)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile("/jobs/[0-9a-f-]{36}"))
        await page.wait_for_load_state()
        await page.keyboard.press("?")
        await expect(page.locator("#keys")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.keyboard.press("Control+k")
        await page.keyboard.type(str(shown["flow"]))
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(str(shown["flow"])))
        assert faults == []


async def test_an_action_opens_as_a_dialog_and_can_be_left(stage: tuple[Server, dict[str, UUID]]) -> None:
    server, _ = stage
    async with browser() as one, opened(one) as (page, faults):
        await page.add_init_script(AXE)
        await page.goto(f"{server.address}dead-letters")
        await page.get_by_role("button", name="Replay …").first.click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_be_visible()
        await expect(dialog.get_by_text("jobs match")).to_be_visible()
        assert await violations(page, ALL_RULES) == []
        await dialog.get_by_role("link", name="Leave it").click()
        await expect(dialog).to_be_hidden()
        await page.get_by_role("button", name="Replay …").nth(1).click()
        await dialog.get_by_label("Why").fill("fixed")
        await dialog.get_by_role("button", name=re.compile("Replay \\d+")).click()
        await expect(page.get_by_role("heading", name="Done")).to_be_visible()
        assert faults == []


async def test_the_theme_that_was_chosen_stays(stage: tuple[Server, dict[str, UUID]]) -> None:
    server, _ = stage
    async with browser() as one, opened(one) as (page, faults):
        await page.goto(server.address)
        await page.get_by_role("button", name="Theme").click()
        await page.get_by_role("button", name="Theme").click()
        await page.goto(f"{server.address}queues")
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert faults == []


async def test_trouble_is_told_and_the_page_stays(database_url: str, system: System) -> None:
    await system.add("app.first")
    async with browser() as one, opened(one) as (page, _):
        async with served(web_settings(database_url, web_port=0)) as server:
            await page.goto(f"{server.address}jobs")
            await expect(page.locator("[data-pulse]")).to_contain_text("Live")
        await expect(page.locator("#trouble")).to_be_visible(timeout=SOON_MS)
        await expect(page.locator("tbody tr")).to_have_count(1)
