"""The collections of one folder: each is a shard of Qdrant's engine, and each request a step of it."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import qdrant_edge as edge

Json = Mapping[str, Any]
DISTANCES = {"Cosine": edge.Distance.Cosine, "Dot": edge.Distance.Dot, "Euclid": edge.Distance.Euclid}
INDEXES = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "float": edge.PayloadSchemaType.Float,
    "integer": edge.PayloadSchemaType.Integer,
}
CONDITIONS = frozenset({"must", "must_not", "should"})


class Unsupported(Exception):
    """Something that the Qdrant server can do and this cannot."""


class Shards:
    """Every collection of a folder; one process at a time may have it open.

    Writes of a collection come one after the other, searches beside them. Nothing is ever optimised into an index of vectors, since
    that holds the interpreter for seconds: searches compare all vectors that the filters leave.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open = {path.name: edge.EdgeShard.load(str(path)) for path in folder.iterdir() if path.is_dir()}
        self._writing = threading.Lock()

    def close(self) -> None:
        """Write everything down."""
        with self._writing:
            for shard in self._open.values():
                shard.flush()
                shard.close()
            self._open.clear()

    def names(self) -> list[str]:
        return sorted(self._open)

    def has(self, name: str) -> bool:
        return name in self._open

    def create(self, name: str, body: Json) -> None:
        vectors = body.get("vectors") or {}
        if set(vectors) - {"size", "distance", "on_disk"} or "size" not in vectors:
            raise Unsupported("only one vector without a name")
        with self._writing:
            path = self._folder / name
            path.mkdir(mode=0o700)
            parameters = edge.EdgeVectorParams(size=vectors["size"], distance=DISTANCES[vectors["distance"]])
            self._open[name] = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors=parameters))

    def drop(self, name: str) -> bool:
        with self._writing:
            shard = self._open.pop(name, None)
            if shard is None:
                return False
            shard.close()
            shutil.rmtree(self._folder / name, ignore_errors=True)
            return True

    def info(self, name: str) -> Json:
        found = self._open[name].info()
        return {"status": "green", "points_count": found.points_count, "segments_count": found.segments_count}

    def index(self, name: str, body: Json) -> None:
        kind = INDEXES.get(body["field_schema"]) if isinstance(body["field_schema"], str) else None
        if kind is None:
            raise Unsupported(f"an index of type {body['field_schema']}")
        self._update(name, edge.UpdateOperation.create_field_index(body["field_name"], kind))

    def upsert(self, name: str, body: Json) -> None:
        points = [
            edge.Point(_id(point["id"]), point["vector"], point.get("payload")) for point in body["points"]
        ]
        self._update(name, edge.UpdateOperation.upsert_points(points))

    def set_payload(self, name: str, body: Json) -> None:
        if "filter" not in body:
            raise Unsupported("payload by ids; name them in a filter with has_id")
        self._update(
            name, edge.UpdateOperation.set_payload_by_filter(_filter(body["filter"]), body["payload"])
        )

    def delete(self, name: str, body: Json) -> None:
        if "filter" not in body:
            raise Unsupported("deletion by ids; name them in a filter with has_id")
        self._update(name, edge.UpdateOperation.delete_points_by_filter(_filter(body["filter"])))

    def query(self, name: str, body: Json) -> list[Json]:
        query = body.get("query")
        vector = query.get("nearest") if isinstance(query, dict) else query
        if not isinstance(vector, list) or body.get("prefetch"):
            raise Unsupported("a query that is not one vector")
        request = edge.QueryRequest(
            limit=body.get("limit", 10),
            offset=body.get("offset") or 0,
            query=edge.Query.Nearest(vector),
            filter=_filter(body.get("filter")),
            score_threshold=body.get("score_threshold"),
            with_payload=bool(body.get("with_payload", True)),
            with_vector=bool(body.get("with_vector", False)),
        )
        return [
            {
                "id": str(point.id),
                "version": point.version,
                "score": point.score,
                "payload": point.payload,
                "vector": point.vector,
            }
            for point in self._open[name].query(request)
        ]

    def scroll(self, name: str, body: Json) -> Json:
        if body.get("order_by"):
            raise Unsupported("an order")
        request = edge.ScrollRequest(
            limit=body.get("limit", 10),
            offset=None if body.get("offset") is None else _id(body["offset"]),
            filter=_filter(body.get("filter")),
            with_payload=bool(body.get("with_payload", True)),
            with_vector=bool(body.get("with_vector", False)),
        )
        points, following = self._open[name].scroll(request)
        found = [{"id": str(point.id), "payload": point.payload, "vector": point.vector} for point in points]
        return {"points": found, "next_page_offset": None if following is None else str(following)}

    def count(self, name: str, body: Json) -> int:
        return self._open[name].count(edge.CountRequest(exact=True, filter=_filter(body.get("filter"))))

    def _update(self, name: str, operation: Any) -> None:
        with self._writing:
            self._open[name].update(operation)


def _id(value: object) -> Any:
    return UUID(value) if isinstance(value, str) else value


def _filter(body: Json | None) -> Any:
    if not body:
        return None
    if set(body) - CONDITIONS:
        raise Unsupported(f"conditions {', '.join(sorted(set(body) - CONDITIONS))}")
    must, must_not, should = (
        [_condition(each) for each in body.get(name) or ()] or None for name in ("must", "must_not", "should")
    )
    return edge.Filter(must=must, must_not=must_not, should=should)


def _condition(body: Json) -> Any:
    match body:
        case {"has_id": ids}:
            return edge.HasIdCondition({_id(each) for each in ids})
        case {"key": key, "match": {"value": value}}:
            return edge.FieldCondition(key, match=edge.MatchValue(value))
        case {"key": key, "match": {"any": values}}:
            return edge.FieldCondition(key, match=edge.MatchAny(values))
        case {"key": key, "range": span}:
            ends = {name: float(value) for name, value in span.items() if value is not None}
            return edge.FieldCondition(key, range=edge.RangeFloat(**ends))
    raise Unsupported(f"the condition {sorted(body)}")
