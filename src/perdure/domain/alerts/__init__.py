"""Alerts: the facts that are judged, the one table of rules, how an alert stands, and what is said of it."""

from perdure.domain.alerts.facts import Facts, KindFacts, QueueFacts, TableFacts, Waits
from perdure.domain.alerts.notices import Message, Notice, notices
from perdure.domain.alerts.rules import BY_NAME, RULES
from perdure.domain.alerts.standing import (
    Alert,
    AlertState,
    Finding,
    Rule,
    Severity,
    Silence,
    Step,
    advance,
)

__all__ = [
    "BY_NAME",
    "RULES",
    "Alert",
    "AlertState",
    "Facts",
    "Finding",
    "KindFacts",
    "Message",
    "Notice",
    "QueueFacts",
    "Rule",
    "Severity",
    "Silence",
    "Step",
    "TableFacts",
    "Waits",
    "advance",
    "notices",
]
