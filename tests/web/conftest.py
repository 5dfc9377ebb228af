"""Fixtures for the web face: a system to look at, and visitors."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.system import System, system_on
from tests.support.web import USERS, visitor


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings counts."""
    for name in ("PERDURE_WEB_USERS", "PERDURE_WEB_AUTH", "PERDURE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as made:
        yield made


@pytest.fixture
async def web(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody on this machine, where nobody is asked who they are."""
    async with visitor(database_url) as client:
        yield client


@pytest.fixture
async def guarded(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A web face that asks for a token."""
    async with visitor(database_url, web_auth="token", web_users=USERS) as client:
        yield client
