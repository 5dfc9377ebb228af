"""Idempotency keys: a request that is repeated with its key is answered as the first time, and changes nothing twice."""

import hashlib
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from perdure.domain.access import Identity
from perdure.domain.errors import InvalidOption, PayloadTooLarge, PerdureError
from perdure.runtime.wiring import Stores
from perdure.stores.postgres.requests import Kept
from perdure.surfaces.web.gate import IDENTITY
from perdure.surfaces.web.problems import MEDIA_TYPE, Problem, problem_bytes, problem_of
from perdure.surfaces.web.refusals import CODES

HEADER = b"idempotency-key"
REPLAYED = (b"idempotency-replayed", b"true")
LONGEST_KEY = 200
LONGEST_BODY = 10_000_000
NOT_KEPT = frozenset({401, 403, 408, 413, 421, 429})


class Repeats:
    """Stands before the API and looks after POST requests with an `Idempotency-Key`; keys are each caller's own."""

    def __init__(self, app: ASGIApp, web: Any) -> None:
        self._app = app
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope)
        identity = cast("Identity | None", scope.get(IDENTITY))
        if key is None or identity is None:
            await self._app(scope, receive, send)
            return
        try:
            text = _checked(key)
            stores: Stores = await self._web.stores()
            body = await _body(receive)
            digest = _digest(scope, body)
            kept = await stores.requests.take(identity.name, text, digest)
        except PerdureError as error:
            await _answer(send, problem_of(error))
            return
        if kept is not None:
            await _repeat(send, kept, digest)
            return
        recorder = _Recorder(send)
        try:
            await self._app(_uncompressed(scope), _replayed(body), recorder)
        finally:
            if recorder.is_kept:
                await stores.requests.answer(identity.name, text, recorder.status, bytes(recorder.body))
            else:
                await stores.requests.let_go(identity.name, text)


class _Recorder:
    """Passes an answer on and keeps a copy."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.body = bytearray()
        self._ended = False

    @property
    def is_kept(self) -> bool:
        return self._ended and self.status < 500 and self.status not in NOT_KEPT

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self._ended = not message.get("more_body", False)
        await self._send(message)


def _key(scope: Any) -> bytes | None:
    if scope["type"] != ScopeType.HTTP or scope["method"] != "POST" or not scope["path"].startswith("/api/"):
        return None
    return next((value for name, value in scope["headers"] if name.lower() == HEADER), None)


def _uncompressed(scope: Any) -> Any:
    """The request of somebody who takes no compressed answer: what is kept must fit everybody."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
    return {**scope, "headers": headers}


def _checked(key: bytes) -> str:
    text = key.decode("latin-1")
    if not 1 <= len(text) <= LONGEST_KEY or not (text.isascii() and text.isprintable()):
        raise InvalidOption("Idempotency-Key", f"must be 1 to {LONGEST_KEY} printable ASCII characters")
    return text


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY:
            raise PayloadTooLarge("body", f"has more than {LONGEST_BODY} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes) -> Receive:
    sent = False

    async def receive() -> Any:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _digest(scope: Any, body: bytes) -> bytes:
    parts = (scope["path"].encode(), scope["query_string"], body)
    return hashlib.sha256(b"\0".join(parts)).digest()


async def _repeat(send: Send, kept: Kept, digest: bytes) -> None:
    if kept.digest != digest:
        problem = Problem(
            status=422,
            code=CODES[422],
            title="Unprocessable Content",
            detail="this Idempotency-Key was used for another request",
            field="Idempotency-Key",
            next_step="use a new key for each new request",
        )
        await _answer(send, problem)
    elif kept.status is None:
        problem = Problem(
            status=409,
            code=CODES[409],
            title="Conflict",
            detail="a request with this Idempotency-Key is under way",
            field="Idempotency-Key",
            next_step="wait a moment and repeat it",
        )
        await _answer(send, problem)
    else:
        media = b"application/json" if kept.status < 400 else MEDIA_TYPE.encode()
        await _send(send, kept.status, kept.answer, media, REPLAYED)


async def _answer(send: Send, problem: Problem) -> None:
    await _send(send, problem.status, problem_bytes(problem), MEDIA_TYPE.encode())


async def _send(send: Send, status: int, body: bytes, media: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", media), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
