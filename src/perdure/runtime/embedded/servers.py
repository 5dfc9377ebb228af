"""The servers of one data folder, started as they are asked for."""

import logging
from pathlib import Path

from perdure.runtime.embedded.binaries import find_postgres, find_redis
from perdure.runtime.embedded.errors import ServerDidNotStart
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.options import ServerOptions
from perdure.runtime.embedded.postgres import PostgresServer, PostgresSetup
from perdure.runtime.embedded.protocol import ServerUrls
from perdure.runtime.embedded.redis import RedisServer, RedisSetup
from perdure.runtime.embedded.run_as import choose_run_as, hand_over, reachable_binaries, require_reachable
from perdure.runtime.embedded.run_directory import REDIS_SOCKET, fits_sockets

DATABASE = "perdure"

log = logging.getLogger(__name__)


class Servers:
    """PostgreSQL and, when somebody wants it, Redis; both hold the folder's lock as long as they live."""

    def __init__(self, layout: Layout, options: ServerOptions, *, run_directory: Path, lock: int) -> None:
        self._layout = layout
        self._options = options
        self._run_directory = run_directory
        self._lock = lock
        self._postgres: PostgresServer | None = None
        self._redis: RedisServer | None = None

    @property
    def _address(self) -> Path:
        """The folder that addresses name: the data folder's own link where it can, since that stays from start to start."""
        link = self._layout.run_link
        return link if fits_sockets(link) else self._run_directory

    @property
    def lost_postgres(self) -> bool:
        """Whether PostgreSQL was started and has ended by itself."""
        return self._postgres is not None and not self._postgres.running

    def ready(self, *, redis: bool | None) -> ServerUrls:
        """Start what is wanted and not running; returns when all of it answers. Raises EmbeddedServerError.

        `redis` None: it is not started, and named if it runs.
        """
        if redis is None:
            redis = self._redis is not None and self._redis.running
        ran = self._redis is not None and self._redis.running
        if redis and not ran:
            self._redis = self._new_redis()
            self._redis.launch()  # it comes up while PostgreSQL starts
        if self._postgres is None:
            self._postgres = self._new_postgres()
            self._postgres.start()
            self._postgres.ensure_database(DATABASE)
            log.info("PostgreSQL serves as process %s", self._postgres.pid)
        if redis and self._redis:
            self._await_redis(self._redis, ran=ran)
        return ServerUrls(
            database_url=self._postgres.url(DATABASE, self._address),
            redis_url=self._redis.url(sockets=self._address) if redis and self._redis else None,
            data_dir=self._layout.root,
        )

    def _await_redis(self, server: RedisServer, *, ran: bool) -> None:
        try:
            server.wait_ready()
        except ServerDidNotStart:
            if not ran:
                raise
            self._redis = self._new_redis()  # it was dying when it was looked at
            self._redis.start()

    def stop(self) -> None:
        """End both, side by side."""
        if self._redis:
            self._redis.ask_to_stop()
        if self._postgres:
            self._postgres.stop()
        if self._redis:
            self._redis.stop()

    def _new_postgres(self) -> PostgresServer:
        layout, options = self._layout, self._options
        run_as = options.run_as or choose_run_as()
        require_reachable(layout.root, run_as)
        binaries = reachable_binaries(find_postgres(options.postgres_bin), run_as, layout.binaries)
        hand_over(self._run_directory, run_as)
        log.info("PostgreSQL %s from %s (run as: %s)", binaries.version, binaries.folder, run_as.value)
        return PostgresServer(
            PostgresSetup(
                binaries=binaries,
                run_as=run_as,
                data=layout.postgres,
                sockets=self._run_directory,
                log=layout.postgres_log,
                settings=options.postgres_settings,
                throwaway=options.throwaway,
                inherited=(self._lock,),
            )
        )

    def _new_redis(self) -> RedisServer:
        binary = find_redis(self._options.redis_server)
        log.info("%s %s from %s", binary.product, binary.version, binary.path)
        return RedisServer(
            RedisSetup(
                binary=binary,
                data=self._layout.redis,
                socket=self._run_directory / REDIS_SOCKET,
                log=self._layout.redis_log,
                settings=self._options.redis_settings,
                inherited=(self._lock,),
            )
        )
