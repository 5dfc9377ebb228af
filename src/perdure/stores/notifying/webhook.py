"""Messages about alerts as signed JSON."""

import hashlib
import hmac
from collections.abc import Callable
from time import time

import msgspec

from perdure.domain.alerts import Message
from perdure.domain.alerts.notices import webhook_body
from perdure.stores.notifying.http import post

NAME = "webhook"


class Webhook:
    """Posts each message; `Perdure-Signature` is `v1=` and the HMAC-SHA256, in hex, of `<Perdure-Timestamp>.<body>`.

    `Idempotency-Key` is the same whenever the same message is sent again.
    """

    def __init__(self, url: str, secret: str = "", clock: Callable[[], float] = time) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock

    async def send(self, message: Message) -> None:
        body = msgspec.json.encode(webhook_body(message))
        stamp = str(int(self._clock()))
        headers = {"idempotency-key": str(message.id), "perdure-timestamp": stamp}
        if self._secret:
            headers["perdure-signature"] = f"v1={signature(self._secret, stamp, body)}"
        await post(NAME, self._url, body, headers)


def signature(secret: str, stamp: str, body: bytes) -> str:
    """What the receiver compares, in constant time, with what it was sent."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
