"""The shared memory over HTTP."""

import httpx

from tests.support.web import as_role
from tests.web.test_api import API, post


async def test_an_entry_is_written_read_compared_and_deleted(web: httpx.AsyncClient) -> None:
    name = {"namespace": "mine", "key": "a/1"}
    written = (
        await post(web, "/shared/put", {**name, "value": {"token": "kept as it is"}, "ttl": "1h"})
    ).json()
    entry = (await web.get(f"{API}/shared/entry", params=name)).json()
    assert entry == written
    assert entry["value"] == {"token": "kept as it is"}
    over = await post(web, "/shared/put", {**name, "value": 2, "expected": written["version"]})
    assert over.status_code == 200
    for again in ({"expected": written["version"]}, {"absent": True}):
        late = await post(web, "/shared/put", {**name, "value": 3, **again})
        assert late.status_code == 409, late.text
    both = await post(
        web, "/shared/put", {**name, "value": 3, "absent": True, "expected": written["version"]}
    )
    assert both.status_code == 400
    page = (await web.get(f"{API}/shared/entries", params={"namespace": "mine", "prefix": "a/"})).json()
    assert ([each["value"] for each in page["entries"]], page["cursor"]) == ([2], None)
    assert (await web.get(f"{API}/shared/namespaces")).json() == [{"namespace": "mine", "entries": 1}]
    late = await post(web, "/shared/delete", {**name, "expected": written["version"]})
    assert late.status_code == 409
    assert (await post(web, "/shared/delete", dict(name))).json() == name
    assert (await post(web, "/shared/delete", dict(name))).status_code == 404
    assert (await web.get(f"{API}/shared/entry", params=name)).status_code == 404


async def test_who_may_only_look_sees_no_value(guarded: httpx.AsyncClient) -> None:
    """Values are not redacted, so they are for those who work."""
    where = {"namespace": "mine"}
    for role, status in (("viewer", 403), ("worker", 200)):
        found = await guarded.get(f"{API}/shared/entries", params=where, headers=as_role(role))
        assert found.status_code == status
