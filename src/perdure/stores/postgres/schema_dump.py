"""Prints what a migrated schema is made of: `python -m perdure.stores.postgres.schema_dump URL > schema.sql`."""

import asyncio
import sys
from importlib.resources import files

from perdure.stores.postgres.connections import connect
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

PARTS = ("types", "tables", "indexes", "functions", "triggers", "views")
HEADING = """\
-- What the migrations make, for reading; a test compares it with a migrated database. Written by
-- perdure.stores.postgres.schema_dump, the same on every version of PostgreSQL.
"""


async def describe(database_url: str, *, schema: str = DEFAULT_SCHEMA) -> str:
    """The schema as SQL, under the default name whatever its name is. Raises DatabaseUnavailable."""
    sql = statements("catalog")
    connection = await connect(database_url, application_name="perdure schema")
    try:
        await connection.execute("SET search_path TO ''")
        parts = [HEADING]
        for part in PARTS:
            rows = await connection.fetch(sql[part].numbered(), schema)
            parts += [row["text"].strip() + "\n" for row in rows]
    finally:
        await connection.close()
    quoted = '"' + schema.replace('"', '""') + '"'
    return "\n".join(parts).replace(f"{quoted}.", f"{DEFAULT_SCHEMA}.")


def committed() -> str:
    """The description that is kept with the program."""
    return files("perdure.stores.postgres").joinpath("schema.sql").read_text("utf-8")


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(describe(sys.argv[1])))
