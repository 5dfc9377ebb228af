"""The demonstration can be followed in the browser alone."""

import re
import shutil
import sysconfig
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import browser, needs_chromium
from tests.support.command import Command
from tests.support.servers import postgres_binaries
from tests.support.terminal import Running, running
from tests.support.waiting import eventually
from tests.whole.test_browser import opened

pytestmark = [pytest.mark.skipif(**needs_chromium()), pytest.mark.timeout(600)]
PATIENCE_S = 300.0
PATIENCE_MS = 1000 * PATIENCE_S


async def test_the_story_can_be_followed_in_the_browser_alone(scratch: Path) -> None:
    """A worker decays, is foretold and evacuated; a new failure is like one before; it is replayed; and the past shows all of it again."""
    postgres_binaries()
    folder = scratch / "input"
    shutil.copytree(Path(sysconfig.get_path("stdlib")) / "json", folder)
    command = Command(scratch, {"COLUMNS": "200", "PERDURE_WEB_PORT": "0"})
    # The browser first: a worker decays within seconds, whatever the machine has to do meanwhile.
    async with browser() as one, opened(one) as (page, faults):
        with running(command, "demo", "--stay", "--input", str(folder), "--data-dir", str(scratch)) as demo:
            address = _address(demo)
            await _follows_the_worker(page, address)
            demo.wait_for("look around:", within_s=PATIENCE_S)
            await _reads_what_fixed_it(page, address)
            before = await _remembered(page, address)
            await _replays_the_group(page, address)
            await _looks_back(page, address, before)
            assert faults == []
            await page.goto(f"{address}workers")
            await expect(page.locator("[data-pulse]")).to_contain_text("Live")
            demo.interrupt()  # while somebody watches
            assert demo.ended(within_s=PATIENCE_S) == 0, demo.said
    assert demo.lines[-1].startswith("all is well"), demo.said
    assert "Traceback" not in demo.said


def _address(demo: Running) -> str:
    line = demo.lines[demo.wait_for("the dashboard: http", within_s=PATIENCE_S) - 1]
    return line[line.index("http") :]


async def _follows_the_worker(page: Page, address: str) -> None:
    await page.goto(f"{address}workers")
    health = page.get_by_role("group", name="Health of the workers")
    await expect(health.get_by_role("row").filter(has_text="memory fills").first).to_be_visible(
        timeout=PATIENCE_MS
    )
    await page.goto(f"{address}audit?event=worker_evacuating")
    evacuated = page.locator("tbody tr").filter(has_text="worker evacuating")
    await expect(evacuated.first).to_contain_text("memory fills", timeout=PATIENCE_MS)
    await expect(evacuated.first).to_contain_text("perdure")


async def _reads_what_fixed_it(page: Page, address: str) -> None:
    await page.goto(f"{address}dead-letters")
    await expect(page.locator("ul.causes li")).to_have_count(1)
    await page.locator("ul.causes").get_by_role("link", name="newest").click()
    alike = page.get_by_role("group", name="Failures like it")
    await expect(alike.get_by_role("row").filter(has_text="the file was mended").first).to_be_visible()


async def _remembered(page: Page, address: str) -> datetime:
    """A moment with the dead letter in it: moments are remembered each second, and it may be younger than the last one."""

    async def found() -> datetime | None:
        moment = datetime.now(UTC)
        await page.goto(f"{address}dead-letters?as_of={moment.isoformat().replace('+', '%2B')}")
        await expect(page.get_by_text("This is the past")).to_be_visible()
        return moment if await page.locator("ul.causes li").count() else None

    moment = await eventually(found)
    assert moment is not None
    return moment


async def _replays_the_group(page: Page, address: str) -> None:
    await page.goto(f"{address}dead-letters")
    await page.locator("ul.causes").get_by_role("button", name="Replay …").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Why").fill("as those before")
    await dialog.get_by_role("button", name=re.compile("Replay 1")).click()
    await expect(page.get_by_role("heading", name="Done")).to_be_visible()
    await page.goto(f"{address}dead-letters")
    await expect(page.get_by_text("No dead letters: nothing has given up.")).to_be_visible()


async def _looks_back(page: Page, address: str, moment: datetime) -> None:
    """The bar of time, drawn back to before the replay, and to the evacuation by its link in the audit."""
    await page.get_by_label("As of").fill(moment.isoformat(timespec="milliseconds"))
    await page.get_by_label("As of").press("Enter")
    await expect(page.get_by_text("This is the past")).to_be_visible()
    await expect(page.locator("ul.causes li")).to_have_count(1)
    await page.goto(f"{address}audit?event=worker_evacuating")
    at = await page.locator("tbody tr").first.locator("time").get_attribute("datetime")
    await page.goto(f"{address}workers?as_of={(at or '').replace('+', '%2B')}")
    await expect(page.get_by_text("This is the past")).to_be_visible()
    await expect(page.get_by_role("group", name="Workers that live").get_by_role("row")).to_have_count(1 + 2)
