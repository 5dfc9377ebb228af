"""The table of rules as a file of Prometheus."""

import json

from perdure.domain.alerts import RULES, Rule

HEADING = """\
# Alerts of Perdure for Prometheus 2.42 or newer, made by `perdure export prometheus-rules` from the rules that Perdure judges itself.
# Checked by `promtool check rules`, several of them by `promtool test rules`; not run against a Prometheus under load.
# Scrape one `perdure serve`, once: its metrics are those of the whole.
groups:
  - name: perdure
    interval: 15s
    rules:
"""


def rules() -> str:
    """All rules as YAML."""
    return HEADING + "".join(map(_rule, RULES))


def _rule(rule: Rule) -> str:
    lines = [f"- alert: {rule.name}", f"  expr: {json.dumps(rule.promql)}"]
    if rule.hold:
        lines.append(f"  for: {rule.hold.total_seconds():.0f}s")
    if rule.keep:
        lines.append(f"  keep_firing_for: {rule.keep.total_seconds():.0f}s")
    lines += ["  labels:", f"    severity: {rule.severity}", "  annotations:"]
    lines.append(f"    summary: {_text(rule, rule.summary)}")
    lines.append(f"    impact: {_text(rule, rule.impact)}")
    lines.append(f"    command: {_text(rule, rule.command)}")
    return "".join(f"      {line}\n" for line in lines)


def _text(rule: Rule, text: str) -> str:
    shown = {"share": "humanizePercentage", "s": "humanizeDuration"}.get(rule.unit, "humanize")
    target = "{{ $labels." + rule.label + " }}" if rule.label else ""
    return json.dumps(
        text.replace("{target}", target).replace("{value}", "{{ $value | " + shown + " }}"),
        ensure_ascii=False,
    )
