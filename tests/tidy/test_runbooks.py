"""Runbooks: each rule has one of the same shape, its commands exist, and the documentation lists it."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from perdure.domain.alerts import BY_NAME, RULES
from perdure.domain.alerts.runbooks import Section
from perdure.surfaces.runbooks import markdown, runbook
from tests.support.command import Command

ROOT = Path(__file__).parents[2]
BOOKS = ROOT / "src" / "perdure" / "surfaces" / "runbooks"
INDEX = ROOT / "docs" / "guides" / "runbooks.md"
OTHER_PROGRAMS = {"psql", "curl"}


@cache
def help_of(folder: Path, *names: str) -> str:
    ended = Command(folder, {"COLUMNS": "400"})(*names, "--help")
    return ended.out if ended.code == 0 else ""


def test_there_is_one_for_each_rule_and_no_other() -> None:
    assert {path.stem for path in BOOKS.glob("*.md")} == BY_NAME.keys()


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_a_runbook_has_its_parts_and_names_only_what_exists(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    book, rule, text = runbook(name), BY_NAME[name], (BOOKS / f"{name}.md").read_text("utf-8")
    assert book.rule == name
    assert book.commands(Section.LOOK)
    assert book.commands(Section.OVER)
    assert set(re.findall(r"{(\w+)}", text)) == ({rule.label} if rule.label else set())
    told = re.findall(r"`(perdure [^`]+)`", text)
    for line in [*book.commands(), *told]:
        words = shlex.split(line)
        if words[0] in OTHER_PROGRAMS:
            continue
        assert words[0] == "perdure", line
        names = [word for word in words[1:3] if re.fullmatch(r"[a-z]+", word)]
        shown = next((found for n in (2, 1) if (found := help_of(folder, *names[:n]))), "")
        assert shown, line
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            assert option in shown, f"{option} of {line}"
    for other in re.findall(r"\bPerdure[A-Z]\w+", text):
        assert other in BY_NAME, other


def test_the_documentation_lists_all_of_them() -> None:
    text = INDEX.read_text("utf-8")
    for rule in RULES:
        meaning = runbook(rule.name).chapters[0].blocks[0].lines[0]
        assert (
            f"[{rule.name}](../../src/perdure/surfaces/runbooks/{rule.name}.md) | {rule.severity} |" in text
        )
        assert (BOOKS / f"{rule.name}.md").exists()
        assert meaning


def test_values_are_filled_in() -> None:
    assert "perdure queue show media" in markdown("PerdureNoWorkers", "media")
    assert "perdure queue show QUEUE" in markdown("PerdureNoWorkers")
