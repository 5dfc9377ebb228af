"""Alerts over HTTP."""

from typing import Annotated

from litestar.params import FromPath, JSONBody, Parameter

from perdure.domain.access import Permission
from perdure.domain.alerts import RULES, Silence
from perdure.domain.alerts.views import AlertPage, RuleView, rule_view
from perdure.domain.durations import parse_duration
from perdure.surfaces.runbooks import markdown
from perdure.surfaces.web.api.answers import RunbookAnswer
from perdure.surfaces.web.api.bodies import Quieting, Unquieting
from perdure.surfaces.web.context import GivenIdentity, GivenStores
from perdure.surfaces.web.routing import acting, reading

TAG = "alerts"
Target = Annotated[
    str, Parameter(description="What the alert is about; its name is filled in", max_length=200)
]


@reading("/alerts", tag=TAG, summary="Alerts, those that fire first, and the silences in force")
async def list_alerts(stores: GivenStores) -> AlertPage:
    return await stores.alerts.page()


@reading("/alerts/rules", tag=TAG, summary="The rules behind the alerts")
async def list_rules() -> tuple[RuleView, ...]:
    return tuple(map(rule_view, RULES))


@reading("/alerts/rules/{rule:str}/runbook", tag=TAG, summary="What to do about the alerts of a rule")
async def get_runbook(rule: FromPath[str], target: Target = "") -> RunbookAnswer:
    return RunbookAnswer(rule=rule, markdown=markdown(rule, target))


@acting("/alerts/silence", Permission.SILENCE, tag=TAG, summary="Say nothing of some alerts for a while")
async def silence_alerts(stores: GivenStores, identity: GivenIdentity, data: JSONBody[Quieting]) -> Silence:
    return await stores.alerts.silence(
        data.rule,
        data.target,
        author=identity.name,
        reason=data.reason,
        lasts=parse_duration(data.lasts, "lasts"),
    )


@acting("/alerts/unsilence", Permission.SILENCE, tag=TAG, summary="End a silence now")
async def unsilence_alerts(
    stores: GivenStores, identity: GivenIdentity, data: JSONBody[Unquieting]
) -> Silence:
    return await stores.alerts.unsilence(data.id, author=identity.name)


HANDLERS = (list_alerts, list_rules, get_runbook, silence_alerts, unsilence_alerts)
