"""The description of the API is true: calls made up from it are answered as it says."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from perdure import Perdure
from perdure.surfaces.web.application import web_application
from perdure.surfaces.web.serve import served
from tests.support.system import System
from tests.support.vectors import serving as vectors
from tests.support.web import web_settings

EXAMPLES = 5
# What is well-formed may still be refused (a filter that does not parse), and unknown parameters are let pass.
UNFIT = [positive_data_acceptance, negative_data_rejection]


def test_the_description_names_everything_the_specification_asked_for() -> None:
    face: Any = web_application(Perdure(web_settings("postgresql://x@localhost/x")))
    described = face.inner._app.openapi_schema.to_schema()
    assert described["openapi"].startswith("3.1")
    for path, method in (
        ("/jobs", "post"),
        ("/jobs/{job_id}", "get"),
        ("/workers/{worker_id}/acquire", "post"),
        ("/jobs/{job_id}/complete", "post"),
        ("/jobs/{job_id}/fail", "post"),
        ("/workers", "post"),
        ("/workers/{worker_id}/health", "get"),
        ("/status", "get"),
    ):
        assert method in described["paths"][f"/api/v1{path}"], path
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], f"{method} {path}"
            assert operation["tags"], f"{method} {path}"


async def test_the_description_is_served(web: httpx.AsyncClient) -> None:
    answer = await web.get("/api/v1/openapi.json")
    assert (answer.status_code, answer.json()["info"]["title"]) == (200, "Perdure")


@pytest.mark.timeout(400)
async def test_made_up_calls_are_answered_as_described(
    database_url: str, system: System, tmp_path: Path
) -> None:
    """Valid and invalid calls of every operation: no server error, only documented answers of the documented form."""
    await system.add_many(3)
    await system.dead()
    await system.add(after=[await system.add()])
    with vectors(tmp_path) as (found, _):
        at = {"qdrant_url": found.url, "qdrant_api_key": found.api_key, "memory_embedder": "hashing"}
        async with served(web_settings(database_url, web_port=0, **at)) as server:
            called = await asyncio.to_thread(call_everything, f"{server.address}api/v1/openapi.json")
    assert called > 30 * EXAMPLES


def call_everything(url: str) -> int:
    """Call every operation, and give the number of calls. Raises the first fault."""
    schema = schemathesis.openapi.from_url(url)
    called = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr] # an invalid description raises here
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and not has_input(operation):
                continue
            cases = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases)
            def check(case: Any) -> None:
                nonlocal called
                called += 1
                case.call_and_validate(excluded_checks=UNFIT, timeout=30)

            check()
    return called


def has_input(operation: Any) -> bool:
    """Whether anything can be wrong with a call."""
    return bool(list(operation.iter_parameters())) or bool(operation.body)
