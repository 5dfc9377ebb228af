"""The figures of the health library that need no data can be measured."""

from importlib import import_module
from pathlib import Path

import pytest

HEALTH = Path(__file__).parents[2] / "benchmarks" / "health"


def test_what_telemetry_costs_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HEALTH))
    assert [figure.unit for figure in import_module("cost").telemetry()] == ["us", "us"]
