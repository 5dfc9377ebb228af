"""What `perdure init` writes runs as it stands."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.runtime.settings import Settings
from perdure.runtime.trial import try_out
from tests.support.command import Command
from tests.support.terminal import running

LINES_MAX = 15


@pytest.fixture
def first(bare: Command) -> Path:
    """A folder with a first application."""
    ended = bare("init", "first")
    assert ended.code == 0
    assert ended.out.split() == ["first/perdure.toml", "first/app.py", "first/test_app.py"]
    assert "next: cd first && perdure dev app.py" in ended.err
    return bare.folder / "first"


def test_its_test_passes(first: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=first, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


async def test_its_application_is_short_and_has_a_flow(first: Path) -> None:
    assert len((first / "app.py").read_text().splitlines()) <= LINES_MAX
    assert {job.name for job in await try_out(str(first / "app.py"))} == {"app.greet", "app.three_steps"}


def test_its_settings_can_be_read(first: Path) -> None:
    settings = Settings.load(config_path=first / "perdure.toml")
    assert settings.queues == ("default",)
    assert settings.data_dir == first / ".perdure"


@pytest.mark.timeout(240)
def test_its_flow_runs(bare: Command, first: Path, database_url: str) -> None:
    here = Command(first, {**bare.variables, "PERDURE_DATABASE_URL": database_url})
    with running(here, "dev", "app.py") as dev:
        dev.wait_for("process ready")
        assert here("job", "enqueue", "app.three_steps").code == 0
        asyncio.run(_three_greetings(here))
        dev.interrupt()
        assert dev.ended() == 0, dev.said


def test_files_that_exist_are_not_overwritten(bare: Command, first: Path) -> None:
    (first / "app.py").write_text("mine")
    (first / "perdure.toml").unlink()
    ended = bare("init", "first")
    assert ended.code == 4
    assert "app.py, test_app.py already" in ended.err
    assert not (first / "perdure.toml").exists(), "half of it was written"
    assert (first / "app.py").read_text() == "mine"
    assert bare("init", "first", "--force").code == 0
    assert "greet" in (first / "app.py").read_text()


def test_a_file_is_no_folder(bare: Command) -> None:
    (bare.folder / "taken").write_text("")
    assert bare("init", "taken").code == 2


async def _three_greetings(here: Command) -> None:
    async with asyncio.timeout(60):
        while True:
            ended = await asyncio.to_thread(
                here, "job", "list", "state:completed kind:app.greet", "-o", "ids"
            )
            if len(ended.out.split()) == 3:
                return
            await asyncio.sleep(0.05)
