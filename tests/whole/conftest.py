"""Fixtures for tests of the whole: the product as its users meet it, in processes of its own."""

from collections.abc import AsyncIterator

import pytest

from tests.support.faces import bare, perdure
from tests.support.system import System, system_on

__all__ = ["bare", "perdure", "system"]


@pytest.fixture
async def system(database_url: str) -> AsyncIterator[System]:
    async with system_on(database_url) as made:
        yield made
