"""The HTTP API: everything that the specification's HTTP layer had, and what operators do."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from perdure.domain.settlement import ErrorReport, Failed
from perdure.surfaces.cli.exits import CODES as ERROR_CODES
from perdure.surfaces.web.refusals import CODES as HTTP_CODES
from tests.support.system import System, new_id

API = "/api/v1"


async def post(
    web: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None, **headers: str
) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await web.post(f"{API}{path}", json=body or {}, headers=names)


async def registered(web: httpx.AsyncClient, *kinds: str) -> str:
    made = await post(web, "/workers", {"kinds": list(kinds or ["app.work"]), "capacity": 10})
    assert made.status_code == 201, made.text
    return str(made.json()["worker_id"])


async def test_a_job_is_created_acquired_and_completed(web: httpx.AsyncClient, system: System) -> None:
    created = await post(web, "/jobs", {"kind": "app.work", "args": {"n": 12345678901234567890, "x": 1.5}})
    assert created.status_code == 201
    job_id = created.json()["job_id"]
    worker = await registered(web)
    (lease,) = (await post(web, f"/workers/{worker}/acquire", {"limit": 5, "wait": 5})).json()
    assert (lease["job_id"], lease["attempt"], lease["args"]["n"]) == (job_id, 1, 12345678901234567890)
    done = await post(web, f"/jobs/{job_id}/complete", {"token": lease["token"], "result": {"ok": True}})
    assert done.json() == {"job_id": job_id, "settled": "completed"}
    detail = (await web.get(f"{API}/jobs/{job_id}")).json()
    assert (detail["job"]["state"], detail["result"]) == ("completed", {"ok": True})
    events = (await web.get(f"{API}/events")).json()["events"]
    assert {"enqueued", "worker_registered"} <= {event["event"] for event in events}
    assert {event["actor"] for event in events} == {"local"}


async def test_a_failed_job_is_retried_and_then_gives_up(web: httpx.AsyncClient, system: System) -> None:
    job_id = (await post(web, "/jobs", {"kind": "app.work", "retries": 1})).json()["job_id"]
    worker = await registered(web)
    (lease,) = (await post(web, f"/workers/{worker}/acquire", {"wait": 5})).json()
    failed = await post(
        web, f"/jobs/{job_id}/fail", {"token": lease["token"], "error": "no", "retry_in": "1h"}
    )
    assert failed.json()["settled"] == "failed"
    assert await system.state(UUID(job_id)) == "retryable"
    assert (await post(web, f"/jobs/{job_id}/retry", {"reason": "now"})).json()["outcomes"] == {
        "available": 1
    }
    (lease,) = (await post(web, f"/workers/{worker}/acquire", {"wait": 5})).json()
    assert lease["attempt"] == 2
    await post(web, f"/jobs/{job_id}/fail", {"token": lease["token"], "error": "no"})
    assert await system.state(UUID(job_id)) == "discarded"


async def test_a_late_result_is_refused_and_a_repeated_one_is_not(
    web: httpx.AsyncClient, system: System
) -> None:
    job_id = (await post(web, "/jobs", {"kind": "app.work"})).json()["job_id"]
    worker = await registered(web)
    (lease,) = (await post(web, f"/workers/{worker}/acquire", {"wait": 5})).json()
    other = await post(web, f"/jobs/{job_id}/complete", {"token": str(uuid4())})
    assert (other.status_code, other.json()["code"]) == (409, "PERDURE-3002")
    assert await system.count("job_events", "event = 'result_refused'") == 1
    for _ in range(2):
        assert (await post(web, f"/jobs/{job_id}/complete", {"token": lease["token"]})).status_code == 200
    assert await system.count("job_executions") == 1


async def test_a_job_enqueued_twice_under_its_own_id_is_one(web: httpx.AsyncClient, system: System) -> None:
    body = {"kind": "app.work", "id": str(new_id())}
    first, second = (await post(web, "/jobs", body)).json(), (await post(web, "/jobs", body)).json()
    assert (first["disposition"], second["disposition"]) == ("created", "existing") or second[
        "job_id"
    ] == body["id"]
    assert await system.count("jobs") == 1


async def test_a_job_carries_the_trace_context_of_its_request(web: httpx.AsyncClient) -> None:
    """One that is no such context is nobody's mistake here, and is left out."""
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    kept = []
    for sent in (context, "00-nonsense"):
        made = await post(web, "/jobs", {"kind": "app.work", "metadata": {"order": 7}}, traceparent=sent)
        kept.append((await web.get(f"{API}/jobs/{made.json()['job_id']}")).json()["metadata"])
    assert kept == [{"traceparent": context, "order": 7}, {"order": 7}]


async def test_a_dry_run_changes_nothing(web: httpx.AsyncClient, system: System) -> None:
    assert (await post(web, "/jobs", {"kind": "app.work", "dry_run": True})).json()["dry_run"]
    job_id = await system.add()
    report = (await post(web, "/jobs/cancel", {"filter": "state:available", "dry_run": True})).json()
    assert (report["matched"], report["outcomes"], report["sample"][0]["id"]) == (1, {}, str(job_id))
    assert await system.count("jobs") == 1
    assert await system.state(job_id) == "available"
    assert await system.count("job_events") == 0


async def test_every_act_leaves_who_and_why(web: httpx.AsyncClient, system: System) -> None:
    job_id = await system.add()
    assert (await post(web, f"/jobs/{job_id}/cancel", {"reason": "not needed"})).status_code == 200
    assert (await post(web, "/queues/pause", {"queue": "default", "reason": "rebuild"})).status_code == 200
    assert (await post(web, "/queues/resume", {"queue": "default"})).status_code == 200
    found = (await web.get(f"{API}/events", params={"actor": "local"})).json()["events"]
    assert [(event["event"], event["reason"]) for event in found] == [
        ("queue_resumed", ""),
        ("queue_paused", "rebuild"),
        ("cancelled", "not needed"),
    ]


async def test_dead_letters_are_grouped_replayed_and_acknowledged(
    web: httpx.AsyncClient, system: System
) -> None:
    for _ in range(3):
        await system.dead(message="boom")
    other = await system.dead(message="bang")
    groups = (await web.get(f"{API}/dead-letters/groups")).json()
    assert [(group["fingerprint"], group["count"]) for group in groups] == [("fp-boom", 3), ("fp-bang", 1)]
    sample = await post(web, "/dead-letters/replay", {"filter": "fingerprint:fp-boom", "sample": 1})
    assert sample.json()["outcomes"] == {"available": 1}
    paced = await post(web, "/dead-letters/replay", {"filter": "fingerprint:fp-boom", "rate": 0.5})
    assert paced.json()["matched"] == 2
    nobody = await post(web, "/dead-letters/discard", {"job_id": str(other)})
    assert nobody.status_code == 400
    gone = await post(web, "/dead-letters/discard", {"job_id": str(other), "reason": "known"})
    assert gone.json()["outcomes"] == {"dropped": 1}
    assert (await web.get(f"{API}/dead-letters")).json()["letters"] == []


async def test_a_long_list_is_asked_on_with_its_cursor(web: httpx.AsyncClient, system: System) -> None:
    made = {str(job_id) for job_id in await system.add_many(7)}
    found: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page = (
            await web.get(f"{API}/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        found += [job["id"] for job in page["jobs"]]
        cursor = page["cursor"]
    assert (cursor, set(found), len(found)) == (None, made, 7)


async def test_events_of_one_transaction_are_all_met_over_pages(
    web: httpx.AsyncClient, system: System
) -> None:
    await system.add_many(5)
    await post(web, "/jobs/cancel", {"filter": "state:available"})
    met: list[str] = []
    cursor: str | None = None
    for _ in range(6):
        page = (
            await web.get(f"{API}/events", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))
        ).json()
        met += [event["job_id"] for event in page["events"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(met) == len(set(met)) == 5


async def test_a_flow_is_shown_whole_and_listed_once(web: httpx.AsyncClient, system: System) -> None:
    first, second = await system.add(), await system.add()
    child = await system.add(after=[first, second])
    grandchild = await system.add(after=[child])
    flow = (await web.get(f"{API}/jobs/{grandchild}/flow")).json()
    assert {node["job_id"] for node in flow["nodes"]} == {
        str(one) for one in (first, second, child, grandchild)
    }
    assert len(flow["edges"]) == 3
    listed = (await web.get(f"{API}/flows")).json()["flows"]
    assert [(one["job_id"], one["jobs"], one["counts"]) for one in listed] == [
        (str(first), 4, {"available": 2, "pending": 2})
    ]


async def test_flows_are_asked_on_with_their_cursor(web: httpx.AsyncClient, system: System) -> None:
    heads = []
    for _ in range(3):
        heads.append(await system.add())
        await system.add(after=[heads[-1]])
    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = (
            await web.get(f"{API}/flows", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))
        ).json()
        found += [flow["job_id"] for flow in page["flows"]]
        cursor = page["cursor"]
    assert found == [str(head) for head in reversed(heads)]
    assert cursor is None


async def test_a_larger_flow_than_asked_for_says_so(system: System) -> None:
    from perdure.services.flows import Flows
    from perdure.stores.postgres.flows import PostgresFlows

    root = await system.add()
    for _ in range(6):
        await system.add(after=[root])
    flows = Flows(PostgresFlows(system.database))
    flow = await flows.flow(root, most=4)
    assert (flow.truncated, len(flow.nodes)) == (True, 4)
    assert not (await flows.flow(root)).truncated


async def test_throughput_counts_what_was_enqueued_and_what_ended(
    web: httpx.AsyncClient, system: System
) -> None:
    await system.add_many(3)
    await system.run()
    view = (await web.get(f"{API}/throughput", params={"minutes": 5})).json()
    assert len(view["minutes"]) == 5
    assert sum(minute["enqueued"] for minute in view["minutes"]) == 3
    assert sum(minute["completed"] for minute in view["minutes"]) == 1
    rates = {rate["queue"]: rate for rate in (await web.get(f"{API}/queues/rates")).json()}
    assert rates["default"]["arriving"] == pytest.approx(3 / 60)
    scale = (await web.get(f"{API}/autoscale", params={"queue": "default"})).json()
    assert (scale["depth"], scale["workers"]) == (2, 1)


async def test_a_worker_is_seen_beats_and_is_drained(web: httpx.AsyncClient) -> None:
    worker = await registered(web)
    assert (await post(web, f"/workers/{worker}/heartbeat")).json() == {"cancel": []}
    health = (await web.get(f"{API}/workers/{worker}/health")).json()
    assert (health["state"], health["suspect"], health["running"]) == ("active", False, 0)
    assert (await post(web, f"/workers/{worker}/drain", {"reason": "deploy"})).status_code == 200
    refused = await post(web, f"/workers/{worker}/acquire")
    assert refused.status_code == 409


async def test_a_running_job_is_asked_to_stop_with_the_next_heartbeat(web: httpx.AsyncClient) -> None:
    job_id = (await post(web, "/jobs", {"kind": "app.work"})).json()["job_id"]
    worker = await registered(web)
    (lease,) = (await post(web, f"/workers/{worker}/acquire", {"wait": 5})).json()
    assert (await post(web, f"/jobs/{job_id}/cancel")).json()["outcomes"] == {"requested": 1}
    asked = (await post(web, f"/workers/{worker}/heartbeat")).json()["cancel"]
    assert asked == [{"job_id": job_id, "token": lease["token"]}]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/jobs/0199a000-0000-7000-8000-000000000000", 404, "PERDURE-2001"),
        ("/jobs?filter=colour:red", 400, "PERDURE-1009"),
        ("/jobs?cursor=nonsense", 400, "PERDURE-1002"),
        ("/jobs?limit=0", 400, "PERDURE-1001"),
        ("/queues?name=none", 404, "PERDURE-2001"),
        ("/events?cursor=2030-01-01T00:00:00%2B00:00~1", 400, "PERDURE-1002"),
        ("/events?actor=%00", 400, "PERDURE-1002"),
        ("/nothing", 404, "PERDURE-2001"),
    ],
)
async def test_what_goes_wrong_is_a_problem_with_its_code(
    web: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    answer = await web.get(f"{API}{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]
    assert problem["next_step"]


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("path", "request_", "said"),
    [
        (
            "/jobs",
            {"content": b'{"kind": ', "headers": JSON},
            ("PERDURE-1001", "body", "is not JSON: input data was truncated"),
        ),
        (
            "/jobs",
            {"content": b"kind=a"},
            ("PERDURE-1001", "body", "is not JSON: invalid character (byte 0)"),
        ),
        ("/jobs", {}, ("PERDURE-1001", "body", "is missing")),
        ("/jobs/0199a000-0000-7000-8000-000000000000/cancel", {}, ("PERDURE-1001", "body", "is missing")),
        ("/jobs", {"json": [1]}, ("PERDURE-1001", "body", "expected `object`, got `array`")),
        ("/jobs", {"json": {}}, ("PERDURE-1001", "kind", "is missing")),
        (
            "/jobs",
            {"json": {"kind": "a", "priority": 9}},
            ("PERDURE-1001", "priority", "expected `int` <= 5"),
        ),
        (
            "/jobs",
            {"json": {"kind": "a", "depends_on": ["x"]}},
            ("PERDURE-1001", "depends_on[0]", "invalid UUID"),
        ),
        ("/jobs", {"json": {"kind": "a", "delay": "soon"}}, ("PERDURE-1002", "delay", "")),
        (
            "/jobs",
            {"json": {"kind": "a"}, "headers": {"host": "elsewhere.example"}},
            ("PERDURE-7004", "Host", "this server is not called elsewhere.example"),
        ),
    ],
)
async def test_a_refused_request_is_told_its_field_once_and_what_to_do(
    web: httpx.AsyncClient, path: str, request_: dict[str, Any], said: tuple[str, str, str]
) -> None:
    answer = await web.post(f"{API}{path}", **request_)
    assert answer.headers["content-type"] == "application/problem+json"
    problem, (code, field, why) = answer.json(), said
    assert (problem["code"], problem["field"]) == (code, field)
    assert problem["detail"].startswith(f"{field}: {why}")
    assert problem["detail"].count(f"{field}:") == 1
    assert problem["title"]
    assert problem["next_step"]


async def test_a_method_that_an_address_does_not_take_is_told_those_that_it_takes(
    web: httpx.AsyncClient,
) -> None:
    answer = await web.put(f"{API}/jobs", json={})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (405, "PERDURE-7003")
    assert problem["detail"] == "this address takes GET, OPTIONS, POST"
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


def test_codes_that_only_http_has_are_no_codes_of_others() -> None:
    ours = {str(code) for code in ERROR_CODES.values()}
    assert {code for code in HTTP_CODES.values() if code not in ours} == {
        f"PERDURE-700{n}" for n in range(1, 6)
    }


async def test_a_body_that_does_not_fit_names_the_field(web: httpx.AsyncClient) -> None:
    answer = await post(web, "/jobs", {"kind": "app.work", "priority": 9})
    assert (answer.status_code, answer.json()["field"]) == (400, "priority")
    huge = await post(web, "/jobs", {"kind": "app.work", "args": {"text": "x" * 2_000_000}})
    assert huge.status_code == 413


async def test_a_request_repeated_under_its_key_changes_nothing_twice(
    web: httpx.AsyncClient, system: System
) -> None:
    body = {"kind": "app.work"}
    first = await post(web, "/jobs", body, idempotency_key="order-1")
    second = await post(web, "/jobs", body, idempotency_key="order-1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert await system.count("jobs") == 1
    other = await post(web, "/jobs", {"kind": "app.other"}, idempotency_key="order-1")
    assert other.status_code == 422
    fresh = await post(web, "/jobs", body, idempotency_key="order-2")
    assert fresh.json()["job_id"] != first.json()["job_id"]


async def test_of_requests_at_once_under_one_key_one_is_carried_out(
    web: httpx.AsyncClient, system: System
) -> None:
    answers = await asyncio.gather(
        *(post(web, "/jobs", {"kind": "app.work"}, idempotency_key="k") for _ in range(6))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 201}) == 1
    assert await system.count("jobs") == 1


async def test_a_request_that_broke_off_may_be_repeated_under_its_key(
    web: httpx.AsyncClient, system: System
) -> None:
    await post(web, "/jobs", {"kind": "app.work"}, idempotency_key="k")
    await system.sql.execute("UPDATE perdure.request_keys SET status = NULL")
    under_way = await post(web, "/jobs", {"kind": "app.work"}, idempotency_key="k")
    assert under_way.status_code == 409
    await system.sql.execute("UPDATE perdure.request_keys SET at = now() - interval '3 minutes'")
    again = await post(web, "/jobs", {"kind": "app.work"}, idempotency_key="k")
    assert again.status_code == 201
    assert await system.count("jobs") == 2


async def test_answers_are_kept_for_a_day(web: httpx.AsyncClient, system: System) -> None:
    await post(web, "/jobs", {"kind": "app.work"}, idempotency_key="old")
    await system.sql.execute("UPDATE perdure.request_keys SET at = now() - interval '25 hours'")
    await post(web, "/jobs", {"kind": "app.work"}, idempotency_key="new")
    assert await system.count("request_keys") == 1


async def test_secrets_are_hidden_from_lists_details_reports_and_errors(
    web: httpx.AsyncClient, system: System
) -> None:
    job_id = await system.add(
        args=json.dumps({"user": {"Api-Key": "k-12345"}, "to": "postgres://u:pw12345@h/d"})
    )
    told = ErrorReport(type="LoginError", message="login with password=pw12345 failed", fingerprint="f1")
    await system.end(await system.lease_of(job_id), Failed(error=told, retry_in=timedelta(0), give_up=True))
    for answer in (
        await web.get(f"{API}/jobs"),
        await web.get(f"{API}/jobs/{job_id}"),
        await web.get(f"{API}/dead-letters"),
        await web.get(f"{API}/dead-letters/groups"),
        await post(web, "/dead-letters/replay", {"filter": "", "dry_run": True}),
        await web.get(f"/jobs/{job_id}"),
        await web.get("/dead-letters"),
    ):
        assert answer.status_code == 200
        assert "k-12345" not in answer.text
        assert "pw12345" not in answer.text
        assert "redacted" in answer.text


async def test_a_database_that_is_away_is_told_with_when_to_come_back(database_url: str) -> None:
    from tests.support.web import visitor

    async with visitor("postgresql://nobody@127.0.0.1:1/none") as client:
        answer = await client.get(f"{API}/jobs")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
            503,
            "PERDURE-5002",
            "2",
        )
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/startupz")).status_code == 503
        assert (await client.get("/healthz")).json()["state"] == "critical"
        assert 'perdure_store_up{store="postgresql"} 0.0' in (await client.get("/metrics")).text
