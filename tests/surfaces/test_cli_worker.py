"""What a worker refuses to start with, and what is seen of jobs that no worker knows."""

from pathlib import Path

import asyncpg
import pytest

from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command

APPLICATION = """
from perdure import job

@job(name="app.known")
async def known() -> None: ...
"""


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def test_a_worker_leaves_a_newer_schema_alone(
    perdure: Command, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    await execute(database_url, "INSERT INTO perdure.migrations (number, name) VALUES (9999, '9999_future')")
    process = perdure.process("worker", "run", "app.py")
    _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.UNREACHABLE
    assert "9999" in err
    assert "upgrade this program" in err
    assert "Traceback" not in err


async def test_a_worker_without_migrations_names_the_next_command(
    bare: Command, empty_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    process = bare.with_database(empty_database_url).process("worker", "run", "app.py")
    _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.UNREACHABLE
    assert "perdure db migrate" in err
    assert "Traceback" not in err


def test_a_kind_that_no_worker_knows_is_seen(perdure: Command) -> None:
    unknown = perdure("job", "enqueue", "nobody.knows").out.strip()
    (queue,) = perdure("queue", "list", "--json").json["items"]
    assert queue["unserved"] == ["nobody.knows"]
    explained = perdure("job", "explain", unknown).out
    assert "nobody.knows" in explained
    assert "worker" in explained


@pytest.mark.parametrize("command", [("dev",), ("worker", "run")], ids=["dev", "worker run"])
@pytest.mark.parametrize("missing", ["nope.py", "nope", "nope.inner:app"])
def test_an_application_that_is_not_there_is_refused_before_anything_starts(
    bare: Command, command: tuple[str, ...], missing: str
) -> None:
    """One sentence and the next command, though no database is named either; no folder of data is made."""
    ended = bare(*command, missing)
    name = missing.partition(":")[0]
    where = "file nope.py" if name.endswith(".py") else f"module '{name}' here ({bare.folder})"
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert ended.err.splitlines()[:2] == [
        f"perdure: app: there is no {where}",
        "  next: name the file or module that has your jobs; `perdure init` writes a first one",
    ]
    assert not (bare.folder / ".perdure").exists()


def test_the_application_is_that_of_the_settings_when_none_is_given(bare: Command) -> None:
    (bare.folder / "perdure.toml").write_text('app = "work.py"\n')
    assert f"there is no file {bare.folder / 'work.py'}" in bare("worker", "run").err
    (bare.folder / "work.py").write_text(APPLICATION)
    assert "no database is named" in bare("worker", "run").err
    assert "there is no file other.py" in bare("worker", "run", "other.py").err


def test_a_word_that_is_missing_is_named_as_the_help_names_it(bare: Command) -> None:
    assert bare("job", "show").err.startswith("perdure: `perdure job show` needs JOB\n  next: see `perdure")
