"""Advice on kinds, wired."""

from perdure.domain.redaction import Redaction
from perdure.runtime.settings import Settings
from perdure.services.advise import Advise
from perdure.stores.postgres.advice import PostgresAttempts
from perdure.stores.postgres.connections import Database


def advising(database: Database, settings: Settings) -> Advise:
    """On a database that is open already; arguments that the settings hide are not looked at."""
    return Advise(PostgresAttempts(database, Redaction(settings.redact), schema=settings.schema))
