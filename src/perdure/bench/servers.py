"""The servers of a measurement: those that the settings name, and embedded ones in place of what they do not name."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from perdure.runtime.embedded import EmbeddedServers, ServerOptions, wait_until_stopped
from perdure.runtime.embedded.binaries import find_redis
from perdure.runtime.embedded.errors import ServerBinariesMissing
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.ownership import try_to_own
from perdure.runtime.embedded.redis import RedisServer, RedisSetup
from perdure.runtime.plain_settings import plain
from perdure.runtime.settings import Settings

FOLDER = "bench"
GRACE_S = 0.2
CONNECTIONS = {"max_connections": "400"}
"""Enough for a hundred processes."""

Say = Callable[[str], None]


@contextmanager
def servers(settings: Settings, say: Say, *, redis: bool) -> Iterator[Settings]:
    """The settings with a database and, when it is wanted and can be had, a Redis."""
    redis = redis and find_spec("redis") is not None
    named = bool(settings.redis_url.get_secret_value())
    if not settings.database_url.get_secret_value():
        with _embedded(settings, say, redis=redis and not named and _has_redis()) as found:
            yield found
    elif redis and not named and _has_redis():
        with _embedded_redis(say) as redis_url:
            yield _with(settings, redis_url=redis_url)
    else:
        yield settings if redis else _with(settings, redis_url="")


@contextmanager
def _embedded(settings: Settings, say: Say, *, redis: bool) -> Iterator[Settings]:
    """New servers in a folder of their own, removed afterwards. They write to disk as any other server does."""
    work = settings.data_dir.expanduser().absolute() / FOLDER
    say(f"no database is named: starting an embedded PostgreSQL{' and Redis' if redis else ''} in {work}")
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = ServerOptions(throwaway=True, grace_s=GRACE_S, postgres_settings=CONNECTIONS)
    with EmbeddedServers(work, redis=redis, fresh=True, options=options) as urls:
        yield _with(
            settings, database_url=urls.database_url, **{"redis_url": urls.redis_url} if redis else {}
        )
    if wait_until_stopped(work):
        _erase(work)


@contextmanager
def _embedded_redis(say: Say) -> Iterator[str]:
    say("no Redis is named: starting an embedded one")
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as name:
        folder = Path(name)
        server = RedisServer(
            RedisSetup(
                binary=find_redis(),
                data=folder / "data",
                socket=folder / "redis.sock",
                log=folder / "redis.log",
            )
        )
        server.start()
        try:
            yield server.url()
        finally:
            server.stop(immediate=True)


def _has_redis() -> bool:
    try:
        find_redis()
    except ServerBinariesMissing:
        return False
    return True


def _with(settings: Settings, **found: object) -> Settings:
    return Settings.model_validate({**plain(settings), **found})


def _erase(work: Path) -> None:
    layout = Layout(work.resolve())
    lock = try_to_own(layout.lock)
    if lock is not None:
        layout.erase()
        os.close(lock)
