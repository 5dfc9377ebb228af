"""Which prediction is in force: that of the champion among the trained models, or that by limits."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from perdure.domain.errors import ExtraMissing, ModelUnusable, NotFound
from perdure.domain.health.foresight import Case, predict
from perdure.domain.prediction import HORIZON, Prediction

Predictor = Callable[[Case, timedelta], Prediction]


class Champions(Protocol):
    """Where the champion is kept."""

    async def champion(self) -> tuple[int, str] | None:
        """Its number, and the hash that its body must have."""
        ...

    async def body(self, model_id: int) -> bytes: ...


class Champion:
    """Gives the predictor in force; a model is read once, and one that cannot be used changes nothing but says so."""

    def __init__(self, champions: Champions, *, interval: timedelta) -> None:
        self._champions = champions
        self._interval_s = interval.total_seconds()
        self._known: tuple[int, str] | None = None
        self._predictor: Predictor = by_limits

    async def predictor(self) -> Predictor:
        """What foretells a worker's failure now.

        A champion that was tampered with, is damaged or foreign is refused: the one that was used before stays, and each prediction says why.
        """
        known = await self._champions.champion()
        if known is None:
            self._known, self._predictor = None, by_limits
        elif known != self._known:
            try:
                self._predictor = await self._loaded(*known)
            except (ModelUnusable, ExtraMissing, NotFound) as error:
                return _cautious(self._predictor, error.message)
            self._known = known
        return self._predictor

    async def _loaded(self, model_id: int, sha256: str) -> Predictor:
        from perdure.domain.health import failure_model, trained

        body = await self._champions.body(model_id)
        model = failure_model.decode(body, sha256=sha256, interval_s=self._interval_s, name=model_id)
        name = f"model {model_id}"

        def by_model(case: Case, horizon: timedelta = HORIZON) -> Prediction:
            return trained.predict(model, case, horizon=horizon, name=name)

        return by_model


def by_limits(case: Case, horizon: timedelta = HORIZON) -> Prediction:
    """The prediction that needs no training."""
    return predict(case, horizon=horizon)


def _cautious(predictor: Predictor, why: str) -> Predictor:
    def told(case: Case, horizon: timedelta = HORIZON) -> Prediction:
        found = predictor(case, horizon)
        return replace(found, caution="; ".join(part for part in (found.caution, why) if part))

    return told
