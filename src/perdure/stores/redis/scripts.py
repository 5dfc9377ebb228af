"""The Lua scripts, run by their digest and loaded when the server does not know them."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


class Script:
    """One script of `lua/`; a server that was restarted or flushed is taught it again."""

    def __init__(self, name: str) -> None:
        self._text = files("perdure.stores.redis").joinpath("lua", f"{name}.lua").read_text("utf-8")
        self._digest = sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis, keys: Sequence[str], arguments: Sequence[str | int]) -> list[str | int]:
        answer: list[str | int]
        try:
            answer = await redis.evalsha(self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            await redis.script_load(self._text)
            answer = await redis.evalsha(self._digest, len(keys), *keys, *arguments)
        return answer


@cache
def script(name: str) -> Script:
    return Script(name)
