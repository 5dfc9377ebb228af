"""Numbered migrations with their rollbacks, applied under an advisory lock, each in a transaction of its own.

Not yoyo: its lock is a row that a killed migration leaves behind; an advisory lock ends with its connection
(docs/decisions/0003-migrations.md).
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from perdure.domain.errors import SchemaMissing, SchemaOutdated, SchemaTooNew
from perdure.stores.postgres.connections import connect
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, in_schema

_FILE = re.compile(r"^(?P<number>\d{4})_(?P<title>\w+)\.sql$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema, with the way back."""

    number: int
    name: str
    up: str
    down: str


def migrations(schema: str = DEFAULT_SCHEMA) -> list[Migration]:
    """All migrations of this program, in order."""
    folder = files("perdure.stores.postgres.migrations")
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if match := _FILE.match(entry.name):
            down = folder.joinpath(entry.name.replace(".sql", ".rollback.sql")).read_text("utf-8")
            found.append(
                Migration(
                    number=int(match["number"]),
                    name=entry.name.removesuffix(".sql"),
                    up=in_schema(entry.read_text("utf-8"), schema),
                    down=in_schema(down, schema),
                )
            )
    return found


def plain_sql(schema: str = DEFAULT_SCHEMA) -> str:
    """Everything that `migrate` would run on an empty database, as one script for psql."""
    parts = [f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)};", in_schema(_TABLE, schema)]
    for migration in migrations(schema):
        parts += [migration.up, in_schema(_record(migration), schema)]
    return "BEGIN;\n" + "\n".join(parts) + "\nCOMMIT;\n"


async def migrate(database_url: str, *, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """Apply what is missing and give the names of what was applied; a second caller waits for the first.

    Raises SchemaTooNew when the database knows migrations that this program does not.
    """
    async with migrating(database_url, schema=schema) as connection:
        return await apply_missing(connection, schema=schema)


async def apply_missing(connection: asyncpg.Connection, *, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """As `migrate`, on a connection of `migrating`; in a transaction of the caller all steps commit with it.

    Raises SchemaTooNew.
    """
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
    await connection.execute(in_schema(_TABLE, schema))
    applied = await _applied(connection, schema)
    known = migrations(schema)
    _refuse_newer(applied, known)
    done = []
    for migration in known:
        if migration.number not in applied:
            async with connection.transaction():
                await connection.execute(migration.up)
                await connection.execute(in_schema(_record(migration), schema))
            done.append(migration.name)
    return done


async def rollback(database_url: str, *, to: int, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """Undo the migrations above number `to`, newest first, and give their names."""
    async with migrating(database_url, schema=schema) as connection:
        applied = await _applied(connection, schema)
        undone = []
        for migration in reversed(migrations(schema)):
            if migration.number in applied and migration.number > to:
                async with connection.transaction():
                    await connection.execute(migration.down)
                    await connection.execute(in_schema(_FORGET, schema), migration.number)
                undone.append(migration.name)
        return undone


@asynccontextmanager
async def migrating(
    database_url: str, *, schema: str = DEFAULT_SCHEMA, application_name: str = "perdure migrate"
) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside which nobody else changes this schema; a second caller waits for the first."""
    connection = await connect(database_url, application_name=application_name)
    try:
        await connection.execute(
            "SELECT pg_advisory_lock(hashtextextended($1, 0))", f"perdure migrate {schema}"
        )
        yield connection
    finally:
        await connection.close()


async def missing(connection: asyncpg.Connection, *, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """The names of migrations that the database lacks.

    Raises SchemaTooNew when the database knows migrations that this program does not.
    """
    known = migrations(schema)
    table = f"{_quoted(schema)}.migrations"
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        return [migration.name for migration in known]
    applied = await _applied(connection, schema)
    _refuse_newer(applied, known)
    return [migration.name for migration in known if migration.number not in applied]


async def require_current(connection: asyncpg.Connection, *, schema: str = DEFAULT_SCHEMA) -> None:
    """Raise SchemaMissing, SchemaOutdated or SchemaTooNew unless the schema is the one this program knows."""
    lacking = await missing(connection, schema=schema)
    if len(lacking) == len(migrations(schema)):
        raise SchemaMissing(f"the database has no Perdure tables in schema {schema!r}")
    if lacking:
        raise SchemaOutdated(f"the schema {schema!r} lacks {', '.join(lacking)}")


_TABLE = """
CREATE TABLE IF NOT EXISTS perdure.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""
_APPLIED = "SELECT number FROM perdure.migrations"
_RECORD = "INSERT INTO perdure.migrations (number, name) VALUES ({number}, '{name}');"
_FORGET = "DELETE FROM perdure.migrations WHERE number = $1"


def _record(migration: Migration) -> str:
    return _RECORD.format(number=migration.number, name=migration.name)


async def _applied(connection: asyncpg.Connection, schema: str) -> set[int]:
    return {row["number"] for row in await connection.fetch(in_schema(_APPLIED, schema))}


def _refuse_newer(applied: set[int], known: list[Migration]) -> None:
    newer = applied - {migration.number for migration in known}
    if newer:
        raise SchemaTooNew(
            f"the database has migration {max(newer):04d}, and the newest that this program knows is {known[-1].name}"
        )


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
