"""The memory that workers and programs share: JSON by namespace and key, for a time, with compare-and-set."""

from collections.abc import Sequence
from uuid import UUID

from perdure.domain.bounds import NAME_LENGTH_MAX, checked_count, checked_name
from perdure.domain.durations import Duration
from perdure.domain.errors import InvalidOption
from perdure.domain.payload import PAYLOAD_BYTES_MAX, encode_plain
from perdure.domain.shared_memory import (
    AS_THE_NAMESPACE_SAYS,
    SharedEntry,
    SharedNamespace,
    SharedPage,
    time_to_live,
)
from perdure.ports.shared_memory import SharedEntries

LIMIT_MAX = 1_000


class SharedMemory:
    """Checks what it is given, and keeps it; an entry that has run out is absent for everybody from that moment on.

    Names of namespaces and keys have 1 to 200 characters. `ttl` is a duration, None for ever, or "default": as long as
    entries of this namespace usually stay (`jobs` 24 h, `workers` 1 h, `dead-letters` 30 d, `patterns` 90 d, others for ever).
    """

    def __init__(self, entries: SharedEntries, *, max_bytes: int = PAYLOAD_BYTES_MAX) -> None:
        self._entries = entries
        self._max_bytes = max_bytes

    async def get(self, namespace: str, key: str) -> SharedEntry | None:
        """The entry of a key, or None."""
        return await self._entries.get(*_names(namespace, key))

    async def put(
        self, namespace: str, key: str, value: object, *, ttl: Duration | None = AS_THE_NAMESPACE_SAYS
    ) -> SharedEntry:
        """Write a value over whatever is there. Raises InvalidOption, InvalidArguments and PayloadTooLarge."""
        _names(namespace, key)
        return await self._entries.write(namespace, key, self._encoded(value), time_to_live(namespace, ttl))

    async def compare_and_set(
        self,
        namespace: str,
        key: str,
        value: object,
        *,
        expected: UUID | None,
        ttl: Duration | None = AS_THE_NAMESPACE_SAYS,
    ) -> SharedEntry | None:
        """Write a value if the entry still has the version `expected`, or with None if there is no entry.

        None: it was not so, and nothing was written. Of all who expect the same, one succeeds. Raises as `put`.
        """
        _names(namespace, key)
        return await self._entries.write_if(
            namespace, key, self._encoded(value), time_to_live(namespace, ttl), version=expected
        )

    async def delete(self, namespace: str, key: str, *, expected: UUID | None = None) -> bool:
        """Delete an entry, with `expected` only in this version; false when there was none."""
        return await self._entries.erase(*_names(namespace, key), version=expected)

    async def list(
        self, namespace: str, prefix: str = "", *, limit: int = 50, cursor: str | None = None
    ) -> SharedPage:
        """The entries whose keys begin with `prefix`, in the order of the bytes of their keys. Raises InvalidOption."""
        checked_name(namespace, "namespace")
        checked_count(limit, "limit", low=1, high=LIMIT_MAX)
        for text, field in ((prefix, "prefix"), (cursor or "", "cursor")):
            if len(text) > NAME_LENGTH_MAX or "\x00" in text:
                raise InvalidOption(field, "is not the beginning of any key")
        found = await self._entries.list(namespace, prefix=prefix, after=cursor or "", limit=limit + 1)
        more = len(found) > limit
        return SharedPage(entries=tuple(found[:limit]), cursor=found[limit - 1].key if more else None)

    async def namespaces(self) -> Sequence[SharedNamespace]:
        """The namespaces that have entries."""
        return await self._entries.namespaces()

    def _encoded(self, value: object) -> str:
        return encode_plain(value, "value", max_bytes=self._max_bytes)


def _names(namespace: str, key: str) -> tuple[str, str]:
    return checked_name(namespace, "namespace"), checked_name(key, "key")
