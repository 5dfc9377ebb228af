"""Trained models of failures, for programs; the same service as behind `perdure model`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perdure.domain.model import Model
from perdure.ports import By
from perdure.services.models import Evaluation

if TYPE_CHECKING:
    from perdure.runtime.app import Perdure


class ModelOperations:
    """`app.health.models`: see, train, judge, promote and roll back."""

    def __init__(self, app: "Perdure") -> None:
        self._app = app

    async def list(self) -> Sequence[Model]:
        """All models, the newest first."""
        return await (await self._app.stores()).models.list()

    async def show(self, model_id: int) -> Model:
        """One model. Raises NotFound."""
        return await (await self._app.stores()).models.show(model_id)

    async def train(self, *, actor: str = "program", reason: str = "") -> Model:
        """Learn from the history that is kept; takes seconds, in a thread.

        The model is a shadow when it was surely better than what is in force, else a candidate; `.why` says what it lacks. Raises Conflict
        when too little is known, ExtraMissing without numpy.
        """
        return await (await self._app.stores()).models.train(By(actor=actor, reason=reason))

    async def evaluate(self, model_id: int) -> Evaluation:
        """Judge a model by what happened after what it learnt from. Raises NotFound, ModelUnusable, or Conflict when that is nothing."""
        return await (await self._app.stores()).models.evaluate(model_id)

    async def promote(
        self, model_id: int, *, force: bool = False, actor: str = "program", reason: str = ""
    ) -> Model:
        """Have predictions be made by a model. Raises NotFound, ModelUnusable, or Conflict for one that was not good enough, unless `force`."""
        by = By(actor=actor, reason=reason)
        return await (await self._app.stores()).models.promote(model_id, by, force=force)

    async def rollback(self, *, actor: str = "program", reason: str = "") -> int | None:
        """Go back to the champion before; gives its number, None for the prediction without a model. Raises Conflict without a champion."""
        return await (await self._app.stores()).models.rollback(By(actor=actor, reason=reason))
