"""What `perdure doctor` looks at: settings, servers, tables and disk, a line each."""

from datetime import timedelta

from perdure.domain.diagnosis import (
    Line,
    Verdict,
    judge_connections,
    judge_extras,
    judge_redis,
    judge_schema,
    judge_server,
)
from perdure.domain.errors import InvalidSettings, PerdureError, RedisUnavailable
from perdure.runtime.embedded import ServerBinariesMissing, describe
from perdure.runtime.extras import missing_of_extras
from perdure.runtime.settings import (
    CONNECTIONS_OF_A_PROCESS,
    CONNECTIONS_OF_A_WORKER,
    Settings,
    load_problems,
    origins,
)
from perdure.runtime.urls import masked_text, masked_url
from perdure.stores.postgres.connections import DedicatedDatabase, connect
from perdure.stores.postgres.diagnosis import PostgresDiagnosis
from perdure.stores.postgres.migrations import migrations, require_current
from perdure.stores.redis.diagnosis import redis_facts
from perdure.surfaces.cli.options import Connection
from perdure.surfaces.cli.session import has_embedded_server, located, settings_of


async def examine(connection: Connection) -> list[Line]:
    """Everything that can be looked at; what cannot be reached is a line too."""
    problems = load_problems(connection.flags, connection.config)
    if problems:
        return [_bad("settings", problem) for problem in problems]
    settings = settings_of(connection)
    lines = _settings_lines(settings)
    try:
        with located(settings) as found:
            lines += await _database_lines(found)
    except PerdureError as error:
        lines.append(_bad("postgresql", error))
    return [*lines, *await _redis_lines(settings), *_embedded_lines(settings), _extras_line(settings)]


def _settings_lines(settings: Settings) -> list[Line]:
    changed = {name: origin for name, origin in origins(settings).items() if origin.source != "default"}
    told = "; ".join(f"{name} = {origin.value} ({origin.source})" for name, origin in changed.items())
    lines = [Line(check="settings", verdict=Verdict.OK, found=told or "all at their defaults")]
    return lines + [
        Line(check="settings", verdict=Verdict.WARN, found=caution) for caution in settings.cautions
    ]


async def _database_lines(settings: Settings) -> list[Line]:
    url = settings.database_url.get_secret_value()
    database = DedicatedDatabase(url, application_name="perdure doctor")
    try:
        diagnosis = PostgresDiagnosis(database, schema=settings.schema)
        server = await diagnosis.server()
        reached = Line(check="postgresql", verdict=Verdict.OK, found=f"answers at {masked_url(url)}")
        per_worker = CONNECTIONS_OF_A_WORKER + CONNECTIONS_OF_A_PROCESS * settings.processes
        schema_lines, workers = await _schema_lines(settings, diagnosis)
        connections = judge_connections(server, per_worker=per_worker, workers=workers)
        return [reached, *judge_server(server), connections, *schema_lines]
    finally:
        await database.close()


async def _schema_lines(settings: Settings, diagnosis: PostgresDiagnosis) -> tuple[list[Line], int]:
    """The lines about the schema, and how many workers live."""
    checker = await connect(settings.database_url.get_secret_value(), application_name="perdure doctor")
    try:
        await require_current(checker, schema=settings.schema)
    except PerdureError as error:
        return [_bad("schema", error)], 0
    finally:
        await checker.close()
    facts = await diagnosis.schema(silent_for=timedelta(seconds=settings.suspect_after_s))
    current = f"{settings.schema} is at {migrations(settings.schema)[-1].name}"
    return [
        Line(check="schema", verdict=Verdict.OK, found=current),
        *judge_schema(facts),
    ], facts.workers_alive


async def _redis_lines(settings: Settings) -> list[Line]:
    if not settings.redis_url:
        return [Line(check="redis", verdict=Verdict.OK, found="not used: PostgreSQL dispatches alone")]
    url = settings.redis_url.get_secret_value()
    try:
        facts = await redis_facts(url)
    except RedisUnavailable as error:
        return [_bad("redis", error)]
    return [
        Line(check="redis", verdict=Verdict.OK, found=f"answers at {masked_url(url)}"),
        *judge_redis(facts),
    ]


def _embedded_lines(settings: Settings) -> list[Line]:
    found = describe(settings.data_dir)
    lines = []
    for name, program in (("embedded postgresql", found.postgres), ("embedded redis", found.redis)):
        if isinstance(program, ServerBinariesMissing):
            needed = has_embedded_server(settings.data_dir) and not settings.database_url
            verdict = Verdict.BAD if needed else Verdict.OK
            step = "pip install 'perdure[embedded]', if you want embedded servers"
            lines.append(Line(check=name, verdict=verdict, found="no programs found", next_step=step))
        else:
            place = getattr(program, "folder", None) or getattr(program, "path", "")
            lines.append(Line(check=name, verdict=Verdict.OK, found=f"{program.version} in {place}"))
    flush = f"{found.fsync_ms:.2f} ms to flush a page where {settings.data_dir} is"
    return [*lines, Line(check="disk", verdict=Verdict.OK, found=flush)]


def _extras_line(settings: Settings) -> Line:
    wanted = {
        "redis": bool(settings.redis_url),
        "encryption": bool(settings.encryption_keys),
        "memory": bool(settings.qdrant_url) or settings.memory_embedder == "minilm",
        "state": bool(settings.snapshots),
    }
    return judge_extras(missing_of_extras(), [extra for extra, is_wanted in wanted.items() if is_wanted])


def _bad(check: str, error: PerdureError) -> Line:
    found = f"{error.field}: {error.why}" if isinstance(error, InvalidSettings) else error.message
    return Line(
        check=check, verdict=Verdict.BAD, found=masked_text(found), next_step=masked_text(error.next_step)
    )
