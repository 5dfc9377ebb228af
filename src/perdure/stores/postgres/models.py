"""Trained models on PostgreSQL, and the history that they learn from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from perdure.domain.errors import Conflict, NotFound
from perdure.domain.health.lives import Life, Span
from perdure.domain.model import Model, ModelState, NewModel, Past
from perdure.ports import By
from perdure.stores.postgres.connections import Database
from perdure.stores.postgres.rows import Row
from perdure.stores.postgres.samples import sample_of
from perdure.stores.postgres.statements import DEFAULT_SCHEMA, statements

KEPT = 20
SILENCE = timedelta(minutes=5)


class PostgresModels:
    """Keeps models, says which does what, and reads what they learn from."""

    def __init__(self, database: Database, *, schema: str = DEFAULT_SCHEMA) -> None:
        self._database = database
        self._sql = statements("models", schema)

    async def champion(self) -> tuple[int, str] | None:
        """The number of the model that predictions are made by, and the hash that its body must have."""
        rows = await self._database.fetch(self._sql["champion"])
        return (rows[0]["id"], rows[0]["sha256"]) if rows else None

    async def body(self, model_id: int) -> bytes:
        """The body of a model. Raises NotFound."""
        rows = await self._database.fetch(self._sql["body"], model_id)
        if not rows:
            raise _unknown(model_id)
        return bytes(rows[0]["body"])

    async def models(self) -> Sequence[Model]:
        """All models, the newest first."""
        return [_model(row) for row in await self._database.fetch(self._sql["models"], None)]

    async def model(self, model_id: int) -> Model:
        """One model. Raises NotFound."""
        rows = await self._database.fetch(self._sql["models"], model_id)
        if not rows:
            raise _unknown(model_id)
        return _model(rows[0])

    async def add(self, new: NewModel, by: By, *, why: str) -> Model:
        """Keep a model, and forget the oldest that do nothing beyond twenty."""
        (row,) = await self._database.fetch(
            self._sql["add"],
            new.body,
            new.sha256,
            new.kind,
            new.trained_from,
            new.trained_to,
            new.moments,
            new.failures,
            msgspec.json.encode(new.facts).decode(),
            why,
            by.actor,
            by.reason,
        )
        await self._database.fetch(self._sql["forget"], KEPT)
        return await self.model(row["id"])

    async def shade(self, model_id: int, by: By, *, why: str) -> Model:
        """Have a model be compared with the champion. Raises NotFound, or Conflict for the champion itself."""
        return await self._moved("shade", model_id, by, why, f"model {model_id} is the champion already")

    async def promote(self, model_id: int, by: By, *, why: str) -> Model:
        """Have predictions be made by a model. Raises NotFound, or Conflict when they are already."""
        return await self._moved("promote", model_id, by, why, f"model {model_id} is the champion already")

    async def roll_back(self, model_id: int, by: By, *, why: str) -> int | None:
        """Take the champion of this number back; gives the one before it, None where there was none. Raises Conflict when it is no champion."""
        rows = await self._database.fetch(self._sql["roll_back"], model_id, why, by.actor, by.reason)
        if not rows:
            raise Conflict(f"model {model_id} is not the champion", next_step="see them: perdure model list")
        replaced: int | None = rows[0]["replaced"]
        return replaced

    async def retire(self, model_id: int, *, why: str) -> None:
        """A shadow was not good enough."""
        await self._database.fetch(self._sql["retire"], model_id, why)

    async def look(self, *, every: timedelta) -> bool:
        """Take the turn to look after the models; false when somebody did within that time."""
        every_ms = int(every.total_seconds() * 1000)
        return bool(await self._database.fetch(self._sql["look"], every_ms))

    async def note(self, found: str) -> None:
        """What came of a look."""
        await self._database.fetch(self._sql["note"], found)

    async def found(self) -> tuple[datetime | None, str]:
        """When a leader looked after the models last, and what came of it."""
        (row,) = await self._database.fetch(self._sql["found"])
        return row["looked_at"], row["found"]

    async def past(self, *, samples_max: int) -> Past:
        """Lives of workers, chosen by chance until there are so many samples."""
        rows = await self._database.fetch(self._sql["lives"])
        withheld, incidents = self._warned(await self._database.fetch(self._sql["warnings"]))
        lives: list[Life] = []
        left = samples_max
        for row in rows:
            if left <= 0:
                break
            found = await self._database.fetch(self._sql["samples"], row["id"], left)
            left -= len(found)
            if found:
                lives.append(
                    Life(
                        worker_id=row["id"],
                        samples=[sample_of(one) for one in found],
                        until=row["until"],
                        died=row["died"],
                        withheld=withheld.get(row["id"], ()),
                    )
                )
        return Past(lives=lives, known=len(rows), incidents=incidents)

    def _warned(self, rows: Sequence[Row]) -> tuple[Mapping[UUID, Sequence[Span]], Sequence[Span]]:
        """From when to when work was kept from each worker, and when most of the fleet was silent."""
        spans: dict[UUID, list[Span]] = defaultdict(list)
        since: dict[UUID, datetime] = {}
        incidents = []
        for row in rows:
            worker, event, at = row["worker_id"], row["event"], row["at"]
            if event == "fleet_silent":
                incidents.append(Span(at - SILENCE, at + SILENCE))
            elif event == "worker_healthy":
                if worker in since:
                    spans[worker].append(Span(since.pop(worker), at))
            else:
                since.setdefault(worker, at)
        for worker, at in since.items():
            spans[worker].append(Span(at, datetime.max.replace(tzinfo=UTC)))
        return spans, incidents

    async def _moved(self, statement: str, model_id: int, by: By, why: str, already: str) -> Model:
        rows = await self._database.fetch(self._sql[statement], model_id, why, by.actor, by.reason)
        found = await self.model(model_id)
        if not rows:
            raise Conflict(already)
        return found


def _unknown(model_id: int) -> NotFound:
    return NotFound("model", model_id, next_step="see `perdure model list`")


def _model(row: Row) -> Model:
    return Model(
        id=row["id"],
        state=ModelState(row["state"]),
        since=row["since"],
        why=row["why"],
        made_at=row["made_at"],
        made_by=row["made_by"],
        kind=row["kind"],
        trained_from=row["trained_from"],
        trained_to=row["trained_to"],
        moments=row["moments"],
        failures=row["failures"],
        sha256=row["sha256"],
        facts=msgspec.json.decode(row["facts"]),
        replaced=row["replaced"],
    )
