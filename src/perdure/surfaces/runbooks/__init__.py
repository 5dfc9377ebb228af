"""The runbooks that are shipped, one Markdown file for each rule, named after it."""

from functools import cache
from importlib.resources import files

from perdure.domain.alerts import BY_NAME
from perdure.domain.alerts.runbooks import Runbook, filled, parse_runbook
from perdure.domain.errors import NotFound


def markdown(rule: str, target: str = "") -> str:
    """The runbook of a rule as Markdown, about a target where one is given. Raises NotFound."""
    if rule not in BY_NAME:
        raise NotFound("alert", rule, next_step="see `perdure alert rules`")
    return filled(_read(rule), BY_NAME[rule], target)


def runbook(rule: str, target: str = "") -> Runbook:
    """The same in its parts."""
    return parse_runbook(markdown(rule, target))


@cache
def _read(rule: str) -> str:
    return files("perdure.surfaces.runbooks").joinpath(f"{rule}.md").read_text("utf-8")
