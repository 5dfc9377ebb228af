"""What a worker refuses to start with, and what is seen of jobs that no worker knows."""

from pathlib import Path

import asyncpg

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
