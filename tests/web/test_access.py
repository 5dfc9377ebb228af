"""Who comes in, what they may do, and what other sites may not."""

import base64
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from perdure import Perdure
from perdure.domain.access import ROLES, Identity, Permission, Role
from perdure.domain.errors import InvalidSettings
from perdure.surfaces.web.application import web_application
from perdure.surfaces.web.authentication import Arrival, Tokens, User, is_loopback, users_of
from perdure.surfaces.web.pages.verbs import VERBS
from perdure.surfaces.web.serve import check_reach
from tests.support.system import System
from tests.support.web import TOKENS, USERS, as_role, routes, visitor, web_settings

API = "/api/v1"
OPEN = {"/static/{name}", "/livez", "/readyz", "/startupz", "/healthz", "/sign-in", "/sign-out"}


def every_route() -> list[tuple[str, str, Any]]:
    return list(routes(web_application(Perdure(web_settings("postgresql://x@localhost/x")))))


def filled(path: str) -> str:
    return re.sub(
        r"\{name\}", "cancel", re.sub(r"\{(?:job_id|worker_id|restore_id)\}", str(uuid4()), path)
    ).replace("{key}", "k")


def test_every_route_says_whom_it_lets_through() -> None:
    found = every_route()
    assert len(found) > 50
    for method, path, handler in found:
        assert "permission" in handler.opt, f"{method} {path}"
        assert (handler.opt["permission"] is None) == (path in OPEN), f"{method} {path}"


def test_every_route_that_changes_something_needs_more_than_looking() -> None:
    for method, path, handler in every_route():
        if method != "GET" and path not in OPEN and not path.startswith("/act/"):
            assert handler.opt["permission"] not in {None, Permission.VIEW}, f"{method} {path}"
    assert all(verb.permission is not Permission.VIEW for verb in VERBS.values())


async def test_a_viewer_changes_nothing_through_any_route(guarded: httpx.AsyncClient, system: System) -> None:
    """Each mutating route and each action of a page, as a viewer, is refused before its body is looked at."""
    await system.add()
    for method, path, _ in every_route():
        if method != "GET" and path not in OPEN:
            answer = await guarded.request(method, filled(path), json={}, headers=as_role("viewer"))
            assert answer.status_code == 403, f"{method} {path}: {answer.status_code}"
    for name in VERBS:
        form = {"filter": "state:available", "queue": "default", "reason": "no", "shown": "1"}
        assert (await guarded.post(f"/act/{name}", data=form, headers=as_role("viewer"))).status_code == 403
        assert (await guarded.get(f"/act/{name}", headers=as_role("viewer"))).status_code == 403
    assert await system.count("job_events") == 0


async def test_a_stranger_sees_nothing(guarded: httpx.AsyncClient) -> None:
    for method, path, _ in every_route():
        if path in OPEN:
            continue
        answer = await guarded.request(method, filled(path), headers={"accept": "application/json"})
        assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await guarded.get("/healthz?verbose", headers={"accept": "application/json"})).status_code == 401
    assert (await guarded.get("/healthz")).json().get("components") == []


async def test_a_page_sends_a_stranger_to_sign_in_and_back(guarded: httpx.AsyncClient) -> None:
    away = await guarded.get("/jobs?filter=state:failed", headers={"accept": "text/html"})
    assert away.status_code == 303
    form = await guarded.get(away.headers["location"])
    assert 'value="/jobs?filter=state:failed"' in form.text
    wrong = await guarded.post("/sign-in", data={"token": "x" * 20, "to": "/jobs"})
    assert (wrong.status_code, wrong.headers.get("set-cookie")) == (401, None)
    right = await guarded.post("/sign-in", data={"token": TOKENS["operator"], "to": "/jobs"})
    assert (right.status_code, right.headers["location"]) == (303, "/jobs")
    cookie = right.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
    assert TOKENS["operator"] not in right.headers["set-cookie"]
    page = await guarded.get("/jobs")
    assert (page.status_code, "o. operator" in page.text) == (200, True)


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "evil"])
async def test_signing_in_leads_to_a_page_of_ours_only(guarded: httpx.AsyncClient, to: str) -> None:
    answer = await guarded.post("/sign-in", data={"token": TOKENS["viewer"], "to": to})
    assert answer.headers["location"] == "/"


def test_a_session_ends_and_cannot_be_changed() -> None:
    clock = [1000.0]
    users = users_of(USERS)
    tokens = Tokens(users, now=lambda: clock[0])
    cookie = tokens.session(users["v. viewer"])
    assert tokens._of_session(cookie) == users["v. viewer"]
    claim, _, signature = cookie.rpartition(".")
    as_admin = base64.urlsafe_b64encode(b"a. admin").decode() + "." + claim.partition(".")[2]
    assert tokens._of_session(f"{as_admin}.{signature}") is None
    assert tokens._of_session(f"{claim[:-1]}9.{signature}") is None
    assert tokens._of_session("nonsense") is None
    assert tokens._of_session("") is None
    clock[0] += 13 * 3600
    assert tokens._of_session(cookie) is None


def test_a_secret_that_is_changed_ends_the_sessions_made_with_it() -> None:
    old, new = User("ada", Role.ADMIN, "old-secret-000"), User("ada", Role.ADMIN, "new-secret-000")
    cookie = Tokens({"ada": old}).session(old)
    assert Tokens({"ada": new})._of_session(cookie) is None


async def test_name_and_password(database_url: str) -> None:
    async with visitor(database_url, web_auth="basic", web_users="ada:admin:lovelace-1815") as client:
        assert (await client.get("/jobs")).headers["www-authenticate"].startswith("Basic")
        for auth, status in (
            (("ada", "lovelace-1815"), 200),
            (("ada", "wrong"), 401),
            (("eve", "lovelace-1815"), 401),
        ):
            assert (await client.get("/jobs", auth=auth)).status_code == status


async def test_a_proxys_word_counts_from_the_proxy_alone(database_url: str) -> None:
    named = {"x-forwarded-user": "ada", "x-forwarded-role": "operator"}
    options: dict[str, Any] = {"web_auth": "proxy-header", "web_proxies": "10.0.0.1"}
    async with visitor(database_url, client="10.0.0.1", **options) as client:
        assert "ada" in (await client.get("/", headers=named)).text
        assert (await client.get(f"{API}/jobs")).status_code == 401
        paused = await client.post(
            f"{API}/queues/pause", json={"queue": "x"}, headers={"x-forwarded-user": "bob"}
        )
        assert paused.status_code == 403
        odd = await client.get(f"{API}/jobs", headers={**named, "x-forwarded-role": "king"})
        assert odd.status_code == 401
    async with visitor(database_url, client="10.0.0.2", **options) as client:
        assert (await client.get(f"{API}/jobs", headers=named)).status_code == 401


def from_header(arrival: Arrival) -> Identity | None:
    """A judgement of a program's own."""
    name = arrival.headers.get("x-name")
    return Identity.of(name, Role.VIEWER) if name else None


async def test_a_program_judges_for_itself(database_url: str) -> None:
    async with visitor(
        database_url, web_auth="callback", web_callback="tests.web.test_access:from_header"
    ) as client:
        assert (await client.get(f"{API}/jobs", headers={"x-name": "ada"})).status_code == 200
        assert (await client.get(f"{API}/jobs")).status_code == 401


async def test_without_authentication_only_this_machine_comes_in(database_url: str) -> None:
    async with visitor(database_url, client="192.0.2.7") as client:
        assert (await client.get(f"{API}/jobs")).status_code == 401
        assert (await client.get("/livez")).status_code == 200
    async with visitor(database_url) as client:
        assert (await client.get(f"{API}/jobs")).status_code == 200
        forwarded = await client.get(f"{API}/jobs", headers={"x-forwarded-for": "192.0.2.7"})
        assert forwarded.status_code == 401
    async with visitor(database_url, client="192.0.2.7", anywhere=True) as client:
        assert (await client.get(f"{API}/jobs")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])  # noqa: S104 - refused
def test_an_address_that_others_reach_needs_authentication(host: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        check_reach(web_settings("postgresql://x@localhost/x", web_host=host), anywhere=False)
    assert caught.value.field == "web_host"
    check_reach(web_settings("postgresql://x@localhost/x", web_host=host), anywhere=True)
    check_reach(
        web_settings("postgresql://x@localhost/x", web_host=host, web_auth="token", web_users=USERS),
        anywhere=False,
    )


def test_addresses_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", None)))
    assert not any(map(is_loopback, ("10.0.0.1", "example.org", "::", "testclient")))


async def test_nobody_is_called_by_a_name_that_is_not_ours(database_url: str) -> None:
    """A page of another site that has its name point here is refused."""
    async with visitor(database_url) as client:
        for host, status in (
            ("evil.example", 421),
            ("localhost:7337", 200),
            ("127.0.0.1", 200),
            ("[::1]:80", 200),
        ):
            assert (await client.get(f"{API}/counts", headers={"host": host})).status_code == status
        assert (await client.get("/livez", headers={"host": "10.1.2.3:7337"})).status_code == 200
    async with visitor(database_url, web_hosts="jobs.example") as client:
        assert (await client.get(f"{API}/counts", headers={"host": "jobs.example"})).status_code == 200
        assert (await client.get(f"{API}/counts", headers={"host": "localhost"})).status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost"}, 200),
        ({}, 200),
    ],
)
async def test_another_site_changes_nothing(
    web: httpx.AsyncClient, system: System, headers: dict[str, str], status: int
) -> None:
    await system.add()
    body = {"queue": "default", "dry_run": True}
    assert (await web.post(f"{API}/queues/pause", json=body, headers=headers)).status_code == status
    assert (await web.get(f"{API}/counts", headers=headers)).status_code == 200


async def test_read_only_holds_for_everybody(database_url: str, system: System) -> None:
    await system.add()
    async with visitor(database_url, web_auth="token", web_users=USERS, web_read_only=True) as client:
        answer = await client.post(f"{API}/queues/pause", json={"queue": "default"}, headers=as_role("admin"))
        assert answer.status_code == 403
        page = await client.get("/queues", headers=as_role("admin"))
        assert "/act/pause" not in page.text


async def test_a_page_offers_what_its_visitor_may_do(guarded: httpx.AsyncClient, system: System) -> None:
    await system.dead()
    for role, offered in (("viewer", False), ("operator", True)):
        page = await guarded.get("/dead-letters", headers=as_role(role))
        assert ("/act/replay" in page.text) is offered


async def test_every_answer_carries_the_policy_of_a_strict_page(web: httpx.AsyncClient) -> None:
    for path in ("/", "/jobs", f"{API}/jobs", "/nowhere", "/livez"):
        headers = (await web.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert headers["cache-control"] == "no-store"


def test_roles_hold_what_their_names_say() -> None:
    assert ROLES[Role.VIEWER] == {Permission.VIEW}
    assert ROLES[Role.ADMIN] == set(Permission)
    assert Permission.WORK not in ROLES[Role.OPERATOR]
    assert Permission.DISCARD not in ROLES[Role.WORKER]


@pytest.mark.parametrize(
    "users", ["ada", "ada:king:long-enough-secret", "ada:admin:short", ":admin:long-enough-secret"]
)
def test_users_that_cannot_be_meant_are_refused(users: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        web_settings("postgresql://x@localhost/x", web_users=users)
    assert caught.value.field == "web_users"
    assert "long-enough" not in str(caught.value)


def test_authentication_without_anybody_is_refused() -> None:
    for auth in ("token", "basic", "callback"):
        with pytest.raises(InvalidSettings):
            web_application(Perdure(web_settings("postgresql://x@localhost/x", web_auth=auth)))
