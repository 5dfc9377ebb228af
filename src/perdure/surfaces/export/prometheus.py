"""The table of rules as a file of Prometheus."""

import json

from perdure.domain.alerts import RULES, Rule
from perdure.domain.alerts.runbooks import Links

LOCAL = Links(dashboard="http://127.0.0.1:7337")
"""Where `perdure serve` listens when nothing else is said."""
HEADING = """\
# Alerts of Perdure for Prometheus 2.42 or newer, made by `perdure export prometheus-rules` from the rules that Perdure judges itself.
# Checked by `promtool check rules`, several of them by `promtool test rules`; not run against a Prometheus under load.
# Links lead to `alert_dashboard` of the settings, runbooks to `alert_runbooks` where that is set.
# Scrape one `perdure serve`, once: its metrics are those of the whole.
groups:
  - name: perdure
    interval: 15s
    rules:
"""


QUOTED = "'{target}'"
"""Prometheus cannot quote for a shell; for what has no quotation mark in its name this is enough."""


def rules(links: Links = LOCAL) -> str:
    """All rules as YAML."""
    return HEADING + "".join(_rule(rule, links) for rule in RULES)


def _rule(rule: Rule, links: Links) -> str:
    lines = [f"- alert: {rule.name}", f"  expr: {json.dumps(rule.promql)}"]
    if rule.hold:
        lines.append(f"  for: {rule.hold.total_seconds():.0f}s")
    if rule.keep:
        lines.append(f"  keep_firing_for: {rule.keep.total_seconds():.0f}s")
    lines += ["  labels:", f"    severity: {rule.severity}", "  annotations:"]
    lines.append(f"    summary: {_text(rule, rule.summary)}")
    lines.append(f"    impact: {_text(rule, rule.impact)}")
    lines.append(f"    command: {_text(rule, rule.command.replace('{target}', QUOTED))}")
    lines.append(f"    runbook_url: {_runbook(rule, links)}")
    if page := links.page(rule):
        lines.append(f"    dashboard_url: {json.dumps(page)}")
    return "".join(f"      {line}\n" for line in lines)


def _runbook(rule: Rule, links: Links) -> str:
    address = links.runbook(rule)
    filled = rule.label and not links.runbooks
    return json.dumps(f"{address}?target={{{{ $labels.{rule.label} | urlquery }}}}" if filled else address)


def _text(rule: Rule, text: str) -> str:
    shown = {"share": "humanizePercentage", "s": "humanizeDuration"}.get(rule.unit, "humanize")
    target = "{{ $labels." + rule.label + " }}" if rule.label else ""
    return json.dumps(
        text.replace("{target}", target).replace("{value}", "{{ $value | " + shown + " }}"),
        ensure_ascii=False,
    )
