"""Messages about alerts for an incoming webhook of Slack."""

import msgspec

from perdure.domain.alerts import Message
from perdure.domain.alerts.notices import text_of
from perdure.stores.notifying.http import post

NAME = "slack"
LONGEST = 3_000


class Slack:
    """Posts each message as text; names in it can neither link nor call anybody."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, message: Message) -> None:
        text = text_of(message)[:LONGEST]
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        await post(NAME, self._url, msgspec.json.encode({"text": escaped}), {})
