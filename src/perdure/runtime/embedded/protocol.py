"""What a client and the owner of the servers say to each other: one JSON line each way, then silence.

The open connection is the client's claim on the servers. Its end is the one sign of a client's death that
survives `kill -9`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from perdure.runtime.embedded import errors
from perdure.runtime.embedded.errors import EmbeddedServerError, OwnerDidNotAnswer

LONGEST_LINE = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUrls:
    """Where the servers of one data folder answer."""

    database_url: str
    redis_url: str | None
    data_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A client wants to use the servers; whether Redis too, None meaning: if it runs already."""

    redis: bool | None


@dataclass(frozen=True, slots=True)
class StopIfIdle:
    """A client wants the servers gone, which the owner grants when nobody uses them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """The answer to StopIfIdle: how many clients still use the servers; with none, the owner stops."""

    clients: int


Request = Join | StopIfIdle
Reply = ServerUrls | Idle | EmbeddedServerError


def encode_request(request: Request) -> bytes:
    match request:
        case Join():
            return _line({"say": "join", "redis": request.redis})
        case StopIfIdle():
            return _line({"say": "stop_if_idle"})


def decode_request(line: bytes) -> Request | None:
    """The request, or None for anything else."""
    try:
        match json.loads(line):
            case {"say": "join", "redis": None | bool() as redis}:
                return Join(redis=redis)
            case {"say": "stop_if_idle"}:
                return StopIfIdle()
            case _:
                return None
    except ValueError:
        return None


def encode_reply(reply: Reply) -> bytes:
    match reply:
        case ServerUrls():
            where = {"database_url": reply.database_url, "redis_url": reply.redis_url}
            return _line({"say": "urls", "data_dir": str(reply.data_dir), **where})
        case Idle():
            return _line({"say": "idle", "clients": reply.clients})
        case EmbeddedServerError():
            told = {"message": reply.message, "next_step": reply.next_step}
            return _line({"say": "error", "kind": type(reply).__name__, **told})


def decode_reply(line: bytes) -> Reply:
    match json.loads(line):
        case {
            "say": "urls",
            "database_url": str(url),
            "redis_url": None | str() as redis,
            "data_dir": str(folder),
        }:
            return ServerUrls(database_url=url, redis_url=redis, data_dir=Path(folder))
        case {"say": "idle", "clients": int(clients)}:
            return Idle(clients=clients)
        case {"say": "error", "kind": str(kind), "message": str(message), "next_step": str(next_step)}:
            return _error_class(kind)(message, next_step=next_step)
        case other:
            return OwnerDidNotAnswer(
                f"the owner of the servers gave an answer that this version does not know: {other}",
                next_step="end the other programs that use this data folder, and try again",
            )


def _error_class(kind: str) -> type[EmbeddedServerError]:
    found = getattr(errors, kind, EmbeddedServerError)
    return (
        found if isinstance(found, type) and issubclass(found, EmbeddedServerError) else EmbeddedServerError
    )


def _line(message: dict[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"
