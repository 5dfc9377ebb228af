"""Execution contexts in Qdrant, over its REST interface.

Few calls of the interface are needed, and the official client takes over a second of processor time to import and 60 MB
(decision 18), so they are made with httpx. A test has the official client read what was written here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import msgspec

from perdure.domain.errors import MemoryUnavailable
from perdure.domain.execution_memory import ExecutionContext, Resolution, SimilarExecution, Wanted
from perdure.domain.settlement import Outcome
from perdure.ports.execution_memory import DIMENSIONS

CALL_WITHIN_S = 30.0
CONNECT_WITHIN_S = 3.0
KEYWORDS = ("kind", "queue", "outcome", "worker", "fingerprint", "job_id")
NOT_FOUND = 404
Json = dict[str, Any]


class QdrantExecutions:
    """The port `ExecutionVectors`; vectors are compared by their cosine."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        headers = {"api-key": api_key} if api_key else {}
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers=headers,
            timeout=httpx.Timeout(CALL_WITHIN_S, connect=CONNECT_WITHIN_S),
            trust_env=False,
        )
        self._place = str(httpx.URL(url).copy_with(userinfo=b""))

    @property
    def place(self) -> str:
        return self._place

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def prepare(self, collection: str) -> bool:
        if (await self._call("GET", f"/collections/{collection}/exists"))["exists"]:
            return False
        size: Json = {"vectors": {"size": DIMENSIONS, "distance": "Cosine"}}
        await self._call("PUT", f"/collections/{collection}", size)
        for field, schema in (*((name, "keyword") for name in KEYWORDS), ("settled_at", "float")):
            index = {"field_name": field, "field_schema": schema}
            await self._call("PUT", f"/collections/{collection}/index?wait=true", index)
        return True

    async def keep(
        self, collection: str, contexts: Sequence[tuple[ExecutionContext, Sequence[float]]]
    ) -> None:
        points = [
            {"id": str(context.token), "vector": list(vector), "payload": _payload(context)}
            for context, vector in contexts
        ]
        await self._call("PUT", f"/collections/{collection}/points?wait=true", {"points": points})

    async def mark_resolved(
        self, collection: str, resolved: Sequence[tuple[Sequence[UUID], Resolution]]
    ) -> None:
        for tokens, resolution in resolved:
            # By filter, since a point that is not there is an error where ids are named.
            body: Json = {
                "payload": {"resolved": msgspec.to_builtins(resolution)},
                "filter": {"must": [{"has_id": [str(token) for token in tokens]}]},
            }
            await self._call("POST", f"/collections/{collection}/points/payload?wait=true", body)

    async def nearest(
        self, collection: str, vector: Sequence[float], wanted: Wanted, *, limit: int
    ) -> Sequence[SimilarExecution]:
        body: Json = {"query": list(vector), "filter": _filter(wanted), "limit": limit, "with_payload": True}
        if wanted.least > 0:
            body["score_threshold"] = wanted.least
        path = f"/collections/{collection}/points/query"
        found = await self._call("POST", path, body, missing={"points": []})
        return [
            SimilarExecution(similarity=round(point["score"], 4), execution=_context(point))
            for point in found["points"]
        ]

    async def of_job(self, collection: str, job_id: UUID, *, limit: int) -> Sequence[ExecutionContext]:
        body: Json = {"filter": {"must": [_is("job_id", str(job_id))]}, "limit": limit, "with_payload": True}
        path = f"/collections/{collection}/points/scroll"
        found = await self._call("POST", path, body, missing={"points": []})
        return sorted(map(_context, found["points"]), key=lambda each: -each.settled_at)

    async def count(self, collection: str) -> int:
        path = f"/collections/{collection}/points/count"
        return int((await self._call("POST", path, {"exact": True}, missing={"count": 0}))["count"])

    async def forget_before(self, collection: str, moment: datetime) -> None:
        body = {"filter": {"must": [{"key": "settled_at", "range": {"lt": moment.timestamp()}}]}}
        await self._call("POST", f"/collections/{collection}/points/delete?wait=true", body, missing={})

    async def drop(self, collection: str) -> None:
        await self._call("DELETE", f"/collections/{collection}", missing={})

    async def _call(self, method: str, path: str, body: Json | None = None, *, missing: Any = None) -> Any:
        """The `result` of one call; `missing` where there is no such collection."""
        try:
            content = None if body is None else msgspec.json.encode(body)
            headers = {"content-type": "application/json"}
            answer = await self._http.request(method, path, content=content, headers=headers)
            if answer.status_code == NOT_FOUND and missing is not None:
                return missing
            answer.raise_for_status()
            return msgspec.json.decode(answer.content)["result"]
        except httpx.HTTPStatusError as error:
            told = error.response.text[:300]
            raise MemoryUnavailable(
                f"Qdrant at {self.place} answered {error.response.status_code} to {method} {path}: {told}"
            ) from None
        except (httpx.HTTPError, msgspec.DecodeError, KeyError, OSError) as error:
            why = str(error) or type(error).__name__
            raise MemoryUnavailable(f"Qdrant at {self.place} does not answer: {why}") from error


def _payload(context: ExecutionContext) -> Json:
    payload: Json = msgspec.to_builtins(context)
    del payload["token"]  # the point's id
    if payload["resolved"] is None:
        del payload["resolved"]
    return payload


def _context(point: Mapping[str, Any]) -> ExecutionContext:
    return msgspec.convert({**point["payload"], "token": point["id"]}, ExecutionContext)


def _filter(wanted: Wanted) -> Json:
    must: list[Json] = [
        _is(field, value)
        for field in ("kind", "queue", "outcome", "worker", "fingerprint")
        if (value := getattr(wanted, field))
    ]
    span = {"gte": wanted.since, "lte": wanted.until}
    if ends := {name: moment.timestamp() for name, moment in span.items() if moment is not None}:
        must.append({"key": "settled_at", "range": ends})
    must_not: list[Json] = [_is("outcome", str(Outcome.COMPLETED))] if wanted.failed else []
    if wanted.other_than is not None:
        must_not.append(_is("job_id", str(wanted.other_than)))
    return {"must": must, "must_not": must_not}


def _is(field: str, value: str) -> Json:
    return {"key": field, "match": {"value": value}}
