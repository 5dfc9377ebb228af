"""Connections through a pooler that refuses every startup parameter which it was not told to pass over."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from perdure.domain.errors import DatabaseUnavailable
from perdure.runtime.process_wiring import process_stores, supervisor_stores
from perdure.runtime.settings import Settings
from perdure.stores.postgres.connections import PooledDatabase, connect
from perdure.stores.postgres.statements import Statement
from perdure.torture.pooler import IGNORED, pooled

GUIDE = Path(__file__).parents[2] / "docs/guides/production.md"
ONE = Statement("one", (), "SELECT 1 AS one", "")


def socket_of(database_url: str) -> tuple[Path, str]:
    """The socket of a server, and the name of the database."""
    parts = urlsplit(database_url)
    given = parse_qs(parts.query)
    return Path(given["host"][0]) / f".s.PGSQL.{given['port'][0]}", parts.path.removeprefix("/")


async def test_all_that_a_worker_opens_gets_through(database_url: str) -> None:
    """Its claims, its settlements, its reports, its heartbeats, the duties and upkeep; and what a program opens."""
    socket, name = socket_of(database_url)
    async with pooled(socket, user="postgres", database=name, sessions=3) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable"
        settings = Settings.model_validate({"database_url": url})
        async with (
            supervisor_stores(settings) as supervisor,
            process_stores(settings, application_name="tests") as process,
        ):
            program = await PooledDatabase.open(url, application_name="tests", most=1)
            for database in (
                *(supervisor.duties, supervisor.heartbeats, supervisor.keeping._database),
                *(process.jobs._database, process.postgres._database, process.workers._database),
                program,
            ):
                assert [row["one"] for row in await database.fetch(ONE)] == [1]
            await program.close()


async def test_a_parameter_that_it_does_not_know_is_refused_by_name(database_url: str) -> None:
    socket, name = socket_of(database_url)
    async with pooled(socket, user="postgres", database=name, sessions=1) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable"
        with pytest.raises(DatabaseUnavailable, match="unsupported startup parameter: work_mem"):
            await connect(url, application_name="tests", more={"work_mem": "4MB"})


def test_the_guide_names_what_the_pooler_passes_over() -> None:
    (named,) = re.findall(r"^ignore_startup_parameters = (.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert set(named.split(", ")) == IGNORED
