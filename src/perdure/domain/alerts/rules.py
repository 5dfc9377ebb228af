"""The one table of rules. Built-in alerts, Prometheus rules, runbooks and documentation all come from it."""

from collections.abc import Mapping, Sequence

from perdure.domain.alerts.rules_of_machinery import MACHINERY
from perdure.domain.alerts.rules_of_work import WORK
from perdure.domain.alerts.standing import Rule

RULES: Sequence[Rule] = (*WORK, *MACHINERY)
BY_NAME: Mapping[str, Rule] = {rule.name: rule for rule in RULES}
