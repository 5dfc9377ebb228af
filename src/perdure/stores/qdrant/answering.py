"""Whether a Qdrant answers: one request by hand, for whoever asks often and would not load a client for it."""

import asyncio
from urllib.parse import urlsplit

REQUEST = "GET /collections HTTP/1.1\r\nHost: {host}\r\n{key}Connection: close\r\n\r\n"
GOOD = b" 200 "


async def answers(url: str, *, api_key: str = "") -> bool:
    """Whether it lists its collections; the key is sent."""
    try:
        return await _lists_collections(url, api_key)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        return False


async def _lists_collections(url: str, api_key: str) -> bool:
    parts = urlsplit(url)
    host, is_secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    reader, writer = await asyncio.open_connection(host, port, ssl=is_secure or None)
    try:
        key = f"api-key: {api_key}\r\n" if api_key else ""
        writer.write(REQUEST.format(host=host, key=key).encode())
        return GOOD in await reader.readuntil(b"\r\n")
    finally:
        writer.close()
