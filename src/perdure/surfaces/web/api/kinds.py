"""Kinds over HTTP: what the history of one advises, and what it follows of that."""

from dataclasses import dataclass
from typing import Annotated

from litestar.params import FromPath, Parameter

from perdure.domain.advice import Advice
from perdure.domain.durations import parse_duration
from perdure.runtime.advising import advising
from perdure.state_ports import Following
from perdure.stores.postgres.following import PostgresFollowing
from perdure.surfaces.web.context import GivenStores, GivenWeb
from perdure.surfaces.web.routing import reading

Within = Annotated[
    str, Parameter(description="How far back attempts count, such as `7d`", min_length=1, max_length=30)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceAnswer:
    """What the history of a kind says, and what the kind goes by where it follows that."""

    advice: Advice
    follows: Following | None


@reading("/kinds/{kind:str}/advice", tag="kinds", summary="What the history of a kind advises")
async def kind_advice(
    web: GivenWeb, stores: GivenStores, kind: FromPath[str], within: Within = "7d"
) -> AdviceAnswer:
    span = parse_duration(within, "within")
    advice = await advising(stores.database, web.settings).kind(kind, within=span)
    store = PostgresFollowing(stores.database, schema=web.settings.schema)
    return AdviceAnswer(advice=advice, follows=await store.of_kind(kind))


HANDLERS = (kind_advice,)
