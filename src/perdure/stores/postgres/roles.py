"""Least-privilege roles for producers, workers and readers."""

import re
from importlib.resources import files

from perdure.stores.postgres.connections import connect
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, in_schema

ROLES = ("producer", "worker", "reader")
_ROLE = re.compile(rf"\bperdure_({'|'.join(ROLES)})\b")


def roles_sql(schema: str = DEFAULT_SCHEMA) -> str:
    """The script that makes the roles of a schema and grants them what they need; harmless when repeated.

    Roles belong to the whole cluster: those of another schema have its name in front.
    """
    text = files("perdure.stores.postgres").joinpath("roles.sql").read_text("utf-8")
    return in_schema(_ROLE.sub(lambda role: f"{schema}_{role[1]}", text), schema)


async def apply_roles(database_url: str, *, schema: str = DEFAULT_SCHEMA) -> list[str]:
    """Run the script in one transaction and give the names of the roles. Raises DatabaseUnavailable and SchemaMissing."""
    connection = await connect(database_url, application_name="perdure db roles")
    try:
        async with connection.transaction():
            await connection.execute(roles_sql(schema))
    finally:
        await connection.close()
    return [f"{schema}_{role}" for role in ROLES]
