"""The memory that workers and programs share, over HTTP.

Values are given as they are, never redacted, since programs write back what they read; so even reading asks for the permission
to work.
"""

from typing import Annotated, Any

from litestar import get
from litestar.params import JSONBody, Parameter

from perdure.domain.access import Permission
from perdure.domain.errors import Conflict, InvalidOption, NotFound
from perdure.domain.shared_memory import SharedEntry, SharedNamespace, SharedPage
from perdure.surfaces.web.api.answers import DeletedEntryAnswer
from perdure.surfaces.web.api.bodies import DeletingEntry, PuttingEntry
from perdure.surfaces.web.api.jobs import Cursor, Limit
from perdure.surfaces.web.context import GivenStores
from perdure.surfaces.web.routing import PERMISSION, READING, acting

TAG = "shared memory"
WORKING: dict[str, Any] = {"opt": {PERMISSION: Permission.WORK}, "responses": READING, "tags": [TAG]}
Name = Annotated[str, Parameter(min_length=1, max_length=200)]
Prefix = Annotated[str, Parameter(description="Only keys that begin so", max_length=200)]


@get("/shared/namespaces", summary="The namespaces that have entries", **WORKING)
async def list_namespaces(stores: GivenStores) -> list[SharedNamespace]:
    return list(await stores.shared.namespaces())


@get("/shared/entries", summary="Entries of a namespace, in the order of their keys", **WORKING)
async def list_entries(
    stores: GivenStores, namespace: Name, prefix: Prefix = "", limit: Limit = 50, cursor: Cursor = None
) -> SharedPage:
    return await stores.shared.list(namespace, prefix, limit=limit, cursor=cursor)


@get("/shared/entry", summary="One entry", **WORKING)
async def get_entry(stores: GivenStores, namespace: Name, key: Name) -> SharedEntry:
    entry = await stores.shared.get(namespace, key)
    if entry is None:
        raise _absent(namespace, key)
    return entry


@acting("/shared/put", Permission.WORK, tag=TAG, summary="Write an entry, or compare and set it")
async def put_entry(stores: GivenStores, data: JSONBody[PuttingEntry]) -> SharedEntry:
    if data.expected is not None and data.absent:
        raise InvalidOption("absent", "an entry cannot be absent and have a version; give one of the two")
    if data.expected is None and not data.absent:
        return await stores.shared.put(data.namespace, data.key, data.value, ttl=data.ttl)
    written = await stores.shared.compare_and_set(
        data.namespace, data.key, data.value, expected=None if data.absent else data.expected, ttl=data.ttl
    )
    if written is None:
        raise _overtaken(data.namespace, data.key)
    return written


@acting("/shared/delete", Permission.WORK, tag=TAG, summary="Delete an entry, or one version of it")
async def delete_entry(stores: GivenStores, data: JSONBody[DeletingEntry]) -> DeletedEntryAnswer:
    if not await stores.shared.delete(data.namespace, data.key, expected=data.expected):
        if data.expected is not None and await stores.shared.get(data.namespace, data.key) is not None:
            raise _overtaken(data.namespace, data.key)
        raise _absent(data.namespace, data.key)
    return DeletedEntryAnswer(namespace=data.namespace, key=data.key)


def _absent(namespace: str, key: str) -> NotFound:
    return NotFound("shared entry", f"{namespace}/{key}")


def _overtaken(namespace: str, key: str) -> Conflict:
    return Conflict(
        f"shared entry {namespace}/{key} is not as expected; nothing was changed",
        next_step="read it again and decide anew",
    )


HANDLERS = (list_namespaces, list_entries, get_entry, put_entry, delete_entry)
