"""The REST interface of the collections, as an ASGI application."""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from perdure.runtime.vectors.shards import Shards, Unsupported
from perdure.version import __version__

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
Step = Callable[[Shards, str, dict[str, Any]], object]
LONGEST_BODY = 64 * 1024 * 1024
NAME = r"(?P<name>[A-Za-z0-9_-]{1,120})"
SPOKEN = "1.16.0"
"""The version of the Qdrant server whose interface this is a part of."""


def _done(step: Callable[[Shards, str, dict[str, Any]], None]) -> Step:
    def run(shards: Shards, name: str, body: dict[str, Any]) -> object:
        step(shards, name, body)
        return {"operation_id": 0, "status": "completed"}

    return run


ROUTES: tuple[tuple[str, re.Pattern[str], Step, bool], ...] = tuple(
    (method, re.compile(path), step, needs)
    for method, path, step, needs in (
        ("GET", r"/collections", lambda s, _, __: {"collections": [{"name": n} for n in s.names()]}, False),
        ("GET", rf"/collections/{NAME}/exists", lambda s, name, _: {"exists": s.has(name)}, False),
        ("GET", rf"/collections/{NAME}", lambda s, name, _: s.info(name), True),
        ("PUT", rf"/collections/{NAME}", lambda s, name, body: s.create(name, body) is None, False),
        ("DELETE", rf"/collections/{NAME}", lambda s, name, _: s.drop(name), True),
        ("PUT", rf"/collections/{NAME}/index", _done(Shards.index), True),
        ("PUT", rf"/collections/{NAME}/points", _done(Shards.upsert), True),
        ("POST", rf"/collections/{NAME}/points/payload", _done(Shards.set_payload), True),
        ("POST", rf"/collections/{NAME}/points/delete", _done(Shards.delete), True),
        ("POST", rf"/collections/{NAME}/points/query", lambda s, n, b: {"points": s.query(n, b)}, True),
        ("POST", rf"/collections/{NAME}/points/scroll", Shards.scroll, True),
        ("POST", rf"/collections/{NAME}/points/count", lambda s, n, b: {"count": s.count(n, b)}, True),
    )
)
"""Method, path, what is done, and whether the collection must be there."""


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def answering(shards: Shards, api_key: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The application; whoever does not know the key is let in nowhere."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            _let_in(scope, api_key)
            status, answer = 200, await _answer(shards, scope, await _body(receive))
        except Refused as error:
            status, answer = error.status, {"status": {"error": str(error)}}
        except Unsupported as error:
            status, answer = (
                501,
                {"status": {"error": f"this is not the Qdrant server, and cannot do {error}"}},
            )
        except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
            status, answer = 400, {"status": {"error": f"{type(error).__name__}: {error}"}}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": msgspec.json.encode(answer)})

    return application


def _let_in(scope: Scope, api_key: str) -> None:
    given = dict(scope["headers"]).get(b"api-key", b"")
    if not hmac.compare_digest(given, api_key.encode()):
        raise Refused(401, "the api-key is not the one of this server")


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > LONGEST_BODY:
            raise Refused(413, "the body is too large")
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(shards: Shards, scope: Scope, raw: bytes) -> dict[str, Any]:
    if scope["path"] == "/":
        return {"title": f"perdure {__version__}, a part of Qdrant's interface", "version": SPOKEN}
    body = msgspec.json.decode(raw) if raw else {}
    for method, pattern, step, needs in ROUTES:
        found = pattern.fullmatch(scope["path"])
        if found and method == scope["method"]:
            name = found.groupdict().get("name", "")
            if needs and not shards.has(name):
                raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
            return {"result": await asyncio.to_thread(step, shards, name, body), "status": "ok", "time": 0.0}
    raise Unsupported(f"{scope['method']} {scope['path']}")
