"""One HTTP request of a channel; addresses stay out of what is told of it."""

import asyncio
import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

from perdure.domain.errors import NotifierFailed
from perdure.version import __version__

TIMEOUT_S = 10.0


async def post(channel: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Post JSON and follow no redirect. Raises NotifierFailed unless it is answered with a status of 200 to 299."""
    every = {"content-type": "application/json", "user-agent": f"perdure/{__version__}", **headers}
    try:
        status = await asyncio.to_thread(_post, url, body, every)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotifierFailed(channel, f"the receiver cannot be reached ({type(error).__name__})") from None
    if not 200 <= status < 300:
        raise NotifierFailed(channel, f"the receiver answered with status {status}")


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    parts = urlsplit(url)
    made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = made(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body=body, headers=dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()
