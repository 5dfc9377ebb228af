"""Takes the pictures of the documentation: `python -m tests.support.pictures FOLDER`, or `make pictures`."""

import asyncio
import sys
import tempfile
from pathlib import Path

from perdure.runtime.embedded import EmbeddedServers
from perdure.stores.postgres.migrations import migrate
from perdure.surfaces.web.serve import served
from tests.support.browser import browser
from tests.support.showcase import fill, keep_alive
from tests.support.web import web_settings

READY = ".v-ok ~ section .states li, .machine, .graph, .causes"
SIZE = {"width": 1280, "height": 800}


async def take(url: str, folder: Path) -> None:
    """Fill the database, serve it, and take every picture light and dark."""
    await migrate(url)
    shown = await fill(url)
    alive = asyncio.create_task(keep_alive(url))
    pages = {
        "now": "",
        "job": f"jobs/{shown['retryable']}",
        "flow": f"flows/{shown['flow']}",
        "dead-letters": "dead-letters",
    }
    async with served(web_settings(url, web_port=0)) as server, browser() as one:
        for theme in ("light", "dark"):
            context = await one.new_context(viewport=SIZE, color_scheme=theme)  # type: ignore[arg-type]
            for name, path in pages.items():
                page = await context.new_page()
                await page.goto(f"{server.address}{path}")
                await page.locator(READY).first.wait_for(
                    timeout=120_000
                )  # a busy machine gives parts at first
                await asyncio.sleep(2)  # the chart
                await page.screenshot(path=str(folder / f"{name}-{theme}.png"))
                await page.close()
            await context.close()
    alive.cancel()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, EmbeddedServers(Path(data) / "data", redis=False) as urls:
        asyncio.run(take(urls.database_url, folder))


if __name__ == "__main__":
    main()
