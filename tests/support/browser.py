"""A real browser for tests and pictures: Debian's Chromium, driven without a window."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"desktop": (1360, 860), "phone": (375, 812)}


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Chromium, as long as this lasts."""
    async with async_playwright() as driver:
        one = await driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield one
        finally:
            await one.close()


def needs_chromium() -> dict[str, Any]:
    """Why tests are skipped where there is no browser; where the whole check runs, there must be one."""
    missing = not CHROMIUM and not os.environ.get("CI")
    return {"condition": missing, "reason": "there is no chromium here (Debian: apt-get install chromium)"}
