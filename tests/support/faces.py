"""Fixtures: the command line without a database, and with one."""

import os
from pathlib import Path

import pytest

from tests.support.command import Command


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in an empty folder, with no settings."""
    for name in list(os.environ):
        if name.startswith("PERDURE_") and not name.startswith("PERDURE_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, {"COLUMNS": "200"})


@pytest.fixture
def perdure(bare: Command, database_url: str) -> Command:
    """The command line with a migrated, empty database."""
    return bare.with_database(database_url)
