"""The life of trained models: learnt from the system's own history, judged on newer history, compared in the shadow, promoted, rolled back."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from perdure.domain.errors import Conflict, ModelUnusable
from perdure.domain.model import Model, ModelState, NewModel, Past
from perdure.ports import By

if TYPE_CHECKING:
    from perdure.domain.health.failure_model import FailureModel
    from perdure.domain.health.trial import Trial

SAMPLES_MAX = 200_000
"""Samples that are learnt from: three weeks of one worker, as they are every ten seconds."""

TRAINED_EVERY = timedelta(days=1)
NEW_FAILURES = 50
FAILURES_MIN = 5
SYSTEM = By(actor="perdure", reason="models are looked after")


class Models(Protocol):
    """Where models are kept; each change leaves an event. Raises NotFound for a model that is not known."""

    async def models(self) -> Sequence[Model]: ...

    async def model(self, model_id: int) -> Model: ...

    async def body(self, model_id: int) -> bytes: ...

    async def add(self, new: NewModel, by: By, *, why: str) -> Model: ...

    async def shade(self, model_id: int, by: By, *, why: str) -> Model: ...

    async def promote(self, model_id: int, by: By, *, why: str) -> Model: ...

    async def roll_back(self, model_id: int, by: By, *, why: str) -> int | None: ...

    async def retire(self, model_id: int, *, why: str) -> None: ...

    async def past(self, *, samples_max: int) -> Past: ...

    async def found(self) -> tuple[datetime | None, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How a model stands on all that happened after what it learnt from; `faults` says why it may not be relied on."""

    model: Model
    moments: int
    failures: int
    facts: Mapping[str, object]
    faults: Sequence[str]


class TrainedModels:
    """Trains, judges, promotes and rolls back, for a person or, by `run_once`, for the leader."""

    def __init__(self, models: Models, *, interval: timedelta, lag_max: timedelta, shadow: timedelta) -> None:
        self._models = models
        self._interval = interval
        self._lag_max = lag_max
        self._shadow = shadow

    async def list(self) -> Sequence[Model]:
        """All models, the newest first."""
        return await self._models.models()

    async def found(self) -> tuple[datetime | None, str]:
        """When a leader looked after the models last, and what came of it."""
        return await self._models.found()

    async def show(self, model_id: int) -> Model:
        """One model. Raises NotFound."""
        return await self._models.model(model_id)

    async def train(self, by: By) -> Model:
        """Learn from the history that is kept, and judge by its newest part.

        A model that is better there than the limits and than the champion, surely, goes into the shadow; any other is kept as a candidate
        and says what it lacks. Raises Conflict when too little is known, ExtraMissing without numpy.
        """
        trial = await self._trial()
        return await self._trained(trial, by)

    async def evaluate(self, model_id: int) -> Evaluation:
        """Judge a model by what happened after what it learnt from. Raises NotFound, ModelUnusable, or Conflict when that is nothing."""
        model = await self._models.model(model_id)
        trial = await self._trial()
        loaded = await self._loaded(model)
        found = await asyncio.to_thread(trial.judged, loaded, since=model.trained_to)
        return Evaluation(
            model=model,
            moments=found.moments,
            failures=found.failures,
            facts=found.facts,
            faults=found.faults,
        )

    async def promote(self, model_id: int, by: By, *, force: bool = False) -> Model:
        """Have predictions be made by a model from now on.

        Raises NotFound, ModelUnusable for one that was changed or is foreign, and Conflict for one that was not good enough, unless `force`.
        """
        model = await self._models.model(model_id)
        await self._loaded(model)
        faults = model.facts.get("faults")
        if faults and not force:
            raise Conflict(
                f"model {model_id} is not to be relied on: {model.why}",
                next_step="train another when more has happened, or promote it all the same with --force",
            )
        return await self._models.promote(model_id, by, why="by hand, all the same" if faults else "by hand")

    async def rollback(self, by: By) -> int | None:
        """Go back to the champion before; gives its number, None for none. Raises Conflict when there is no champion."""
        champion = _of(await self._models.models(), ModelState.CHAMPION)
        if champion is None:
            raise Conflict("there is no champion; predictions are made by the limits already")
        return await self._models.roll_back(champion.id, by, why=by.reason or "by hand")

    async def run_once(self) -> str:
        """Look after the models once: the champion, its shadow, and whether to train; tells what was found."""
        trial = await self._trial()
        said = [await self._watch_champion(trial, await self._models.models())]
        said.append(await self._watch_shadow(trial, await self._models.models()))
        try:
            if why := await self._due(trial, await self._models.models()):
                model = await self._trained(trial, SYSTEM)
                said.append(f"{why}: {model.name} is {model.state}, {model.why}")
        except Conflict as error:
            said.append(error.message)
        return ". ".join(one for one in said if one) or "nothing to do"

    async def _trial(self) -> "Trial":
        """The history, made ready in a thread: it takes seconds."""
        from perdure.domain.health.trial import Trial

        past = await self._models.past(samples_max=SAMPLES_MAX)
        return await asyncio.to_thread(Trial, past, interval=self._interval, lag_max=self._lag_max)

    async def _loaded(self, model: Model) -> "FailureModel":
        from perdure.domain.health.failure_model import decode

        body = await self._models.body(model.id)
        return decode(body, sha256=model.sha256, interval_s=self._interval.total_seconds(), name=model.id)

    async def _trained(self, trial: "Trial", by: By) -> Model:
        champion = _of(await self._models.models(), ModelState.CHAMPION)
        loaded = None
        if champion is not None:
            with suppress(ModelUnusable):  # one that cannot be used is no rival
                loaded = await self._loaded(champion)
        new, faults = await asyncio.to_thread(trial.train, loaded)
        why = "; ".join(faults) if faults else "better than all others on the newest part of history"
        model = await self._models.add(new, by, why=why)
        return model if faults else await self._models.shade(model.id, by, why=why)

    async def _watch_champion(self, trial: "Trial", known: Sequence[Model]) -> str:
        """Take a champion back that does worse now than the limits would, or that cannot be used."""
        champion = _of(known, ModelState.CHAMPION)
        if champion is None:
            return ""
        try:
            loaded = await self._loaded(champion)
            found = await asyncio.to_thread(trial.judged, loaded, since=champion.since)
        except ModelUnusable as error:
            return await self._back(champion, error.message)
        except Conflict:  # nothing has happened since
            return ""
        if found.failures < FAILURES_MIN or found.brier <= found.brier_of_limits:
            return ""
        return await self._back(
            champion,
            f"since it is champion its squared error is {found.brier:.4f}, that of the limits {found.brier_of_limits:.4f}, "
            f"over {found.moments} moments",
        )

    async def _back(self, champion: Model, why: str) -> str:
        await self._models.roll_back(champion.id, SYSTEM, why=why)
        return f"took {champion.name} back: {why}"

    async def _watch_shadow(self, trial: "Trial", known: Sequence[Model]) -> str:
        """Promote a shadow whose time is over, if it was no worse than what is in force, or let it go."""
        shadow, champion = _of(known, ModelState.SHADOW), _of(known, ModelState.CHAMPION)
        if shadow is None or trial.until - shadow.since < self._shadow:
            return ""
        try:
            loaded = await self._loaded(shadow)
            rival = None if champion is None else await self._loaded(champion)
            found = await asyncio.to_thread(trial.compared, loaded, rival, since=shadow.since)
        except ModelUnusable as error:
            await self._models.retire(shadow.id, why=error.message)
            return f"let {shadow.name} go: {error.message}"
        except Conflict:
            return ""
        told = f"log-loss {found.log_loss:.4f}, in force {found.log_loss_in_force:.4f}, over {found.moments} moments in the shadow"
        if found.log_loss > found.log_loss_in_force:
            await self._models.retire(shadow.id, why=told)
            return f"let {shadow.name} go: {told}"
        await self._models.promote(shadow.id, SYSTEM, why=told)
        return f"promoted {shadow.name}: {told}"

    async def _due(self, trial: "Trial", known: Sequence[Model]) -> str:
        """Why to train now; empty when there is no need."""
        if not known:
            return "there is no model yet"
        newest = known[0]
        if trial.until - newest.made_at >= TRAINED_EVERY:
            return "the newest model is a day old"
        if trial.failures - newest.failures >= NEW_FAILURES:
            return f"{trial.failures - newest.failures} failures more are known"
        champion = _of(known, ModelState.CHAMPION)
        if champion is not None and trial.until - newest.made_at >= TRAINED_EVERY / 4:
            moved = await asyncio.to_thread(trial.moved, await self._loaded(champion))
            if moved:
                return f"workers are not as they were: {', '.join(moved[:3])}"
        return ""


def _of(models: Sequence[Model], state: ModelState) -> Model | None:
    return next((one for one in models if one.state is state), None)
