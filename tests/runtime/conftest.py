"""Data folders for the tests of the embedded servers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.runtime.embedded import EmbeddedServers, ServerOptions, wait_until_stopped
from tests.support.embedded import SOON_S
from tests.support.servers import scratch_folder


@pytest.fixture(scope="session")
def made_image(server_options: ServerOptions) -> Iterator[Path]:
    """A data folder after its first start, to be copied: later starts need no initdb."""
    with scratch_folder() as folder:
        with EmbeddedServers(folder / "data", redis=False, options=server_options):
            pass
        assert wait_until_stopped(folder / "data")
        yield folder / "data"


@pytest.fixture
def made(made_image: Path, scratch: Path) -> Iterator[Path]:
    """A data folder that was started before, and is not running now."""
    folder = scratch / "data"
    shutil.copytree(made_image, folder, symlinks=True)
    yield folder
    assert wait_until_stopped(folder, within_s=SOON_S), "a test left its servers running"


@pytest.fixture
def new(scratch: Path) -> Iterator[Path]:
    """A data folder that does not exist yet."""
    yield scratch / "data"
    assert wait_until_stopped(scratch / "data", within_s=SOON_S) if (scratch / "data").exists() else True
