"""The figures of liveness: false deaths and times to detect a death, on the simulated network."""

from pathlib import Path

import network
from report import Figure

from perdure.runtime.settings import Settings

DAYS = 400


def figures(_folder: Path) -> list[Figure]:
    beat, dead = default_limits()
    rule = network.measured(network.CLOUD, 30.0, network.fixed(60.0), days=DAYS)
    slow = network.measured(network.CLOUD, 10.0, network.fixed(60.0), days=DAYS)
    found = [
        Figure(
            "false deaths a worker-day, 10 s / 60 s",
            slow.false_per_day,
            "",
            0.1,
            None,
            rule.false_per_day,
            lower=True,
        ),
        Figure(
            "p99 detection of a death, 10 s / 60 s",
            slow.detection_p99_s,
            "s",
            None,
            None,
            rule.detection_p99_s,
            lower=True,
        ),
    ]
    for regime in network.REGIMES:
        one = network.measured(regime, beat, network.fixed(dead), days=DAYS)
        bounds = (None, 0.05) if regime is network.CLOUD else (None, None)
        name = f"{beat:g} s / {dead:g} s (default), {regime.name}"
        found.append(Figure(f"false deaths a worker-day, {name}", one.false_per_day, "", *bounds, lower=True))
        found.append(Figure(f"p99 detection, {name}", one.detection_p99_s, "s", lower=True))
    phi = network.measured(network.CLOUD, 10.0, network.accrual(10.0, pauses=1.0), days=6)
    found.append(Figure("p99 suspicion, phi 8, 10 s", phi.detection_p99_s, "s", lower=True))
    return found


def default_limits() -> tuple[float, float]:
    fields = Settings.model_fields
    return float(fields["heartbeat_interval_s"].default), float(fields["dead_after_s"].default)
