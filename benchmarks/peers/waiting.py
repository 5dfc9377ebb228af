"""What a store itself says about how many jobs have not ended yet."""

from collections.abc import Callable

import psycopg
import redis

from benchmarks.peers.servers import Servers

Waiting = Callable[[Servers], int]


def count(statement: str) -> Waiting:
    """A statement that counts them in PostgreSQL."""

    def ask(servers: Servers) -> int:
        with psycopg.connect(servers.database_url, autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

    return ask


def lengths(*commands: str) -> Waiting:
    """Redis commands that each tell a number; the sum of them."""

    def ask(servers: Servers) -> int:
        with redis.Redis.from_url(servers.redis_url) as connection:
            return sum(int(connection.execute_command(*command.split())) for command in commands)

    return ask


def stream(key: str, group: str) -> Waiting:
    """Messages of a stream that its group has not read, or has read and not acknowledged."""

    def ask(servers: Servers) -> int:
        with redis.Redis.from_url(servers.redis_url) as connection:
            if not connection.exists(key):
                return 0
            for found in connection.xinfo_groups(key):
                if found["name"] == group.encode():
                    unread = found["lag"] if found.get("lag") is not None else connection.xlen(key)
                    return int(found["pending"]) + int(unread)
            return int(connection.xlen(key))

    return ask
