"""The process that looks after the trained models once, started by the leader of the workers.

It is a process of its own, so that learning takes neither memory nor time of a worker. Its orders come on standard input.
"""

import asyncio
import os
import sys

import msgspec
import structlog

from perdure.domain.errors import Conflict
from perdure.runtime.orphans import die_with_parent
from perdure.runtime.settings import Settings
from perdure.runtime.telemetry import configure_logging
from perdure.runtime.wiring import trained_models
from perdure.stores.postgres.connections import DedicatedDatabase
from perdure.stores.postgres.models import PostgresModels

COMMAND_WITHIN_S = 300.0
POLITENESS = 15

log = structlog.get_logger("perdure.models")


async def look_after(settings: Settings) -> str:
    """One look; what came of it is kept for whoever asks."""
    url = settings.database_url.get_secret_value()
    database = DedicatedDatabase(url, application_name="perdure models", command_timeout=COMMAND_WITHIN_S)
    models = PostgresModels(database, schema=settings.schema)
    try:
        try:
            found = await trained_models(settings, models).run_once()
        except Conflict as error:
            found = error.message
        await models.note(found)
        return found
    finally:
        await database.close()


def main() -> int:
    """Look once, and end; or end with the parent."""
    orders = msgspec.json.decode(sys.stdin.buffer.read())
    die_with_parent(orders["parent"])
    os.nice(POLITENESS)
    settings = Settings(**orders["settings"])
    configure_logging(settings)
    log.info("looked after the models", found=asyncio.run(look_after(settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
