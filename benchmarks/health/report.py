"""A figure with what it must reach, and the table and JSON of all of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number; `least` and `aim` are bounds from above when `lower` is better."""

    name: str
    value: float
    unit: str = ""
    least: float | None = None
    aim: float | None = None
    baseline: float | None = None
    lower: bool = False

    def reaches(self, bound: float | None) -> bool:
        if bound is None:
            return True
        return self.value <= bound if self.lower else self.value >= bound


def table(figures: Sequence[Figure]) -> str:
    lines = [f"{'figure':44} {'value':>9} {'unit':14} {'at least':>9} {'aim':>7} {'baseline':>9}  reached"]
    for one in figures:
        if one.least is None and one.aim is None:
            verdict = ""
        elif not one.reaches(one.least):
            verdict = "MISSED"
        else:
            verdict = "aim" if one.aim is not None and one.reaches(one.aim) else "at least"
        cells = (_text(one.least), _text(one.aim), _text(one.baseline))
        lines.append(
            f"{one.name:44} {_text(one.value):>9} {one.unit:14} {cells[0]:>9} {cells[1]:>7} {cells[2]:>9}  {verdict}"
        )
    return "\n".join(lines)


def as_json(figures: Sequence[Figure], versions: dict[str, str]) -> str:
    found = {
        one.name: {
            "value": one.value,
            "unit": one.unit,
            "baseline": one.baseline,
            "at_least": one.least,
            "aim": one.aim,
            "lower_is_better": one.lower,
        }
        for one in figures
    }
    return json.dumps({"versions": versions, "figures": found}, indent=1)


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
