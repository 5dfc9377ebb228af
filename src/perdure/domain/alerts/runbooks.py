"""Runbooks: what to do about an alert, as Markdown of one strict shape, with its values filled in."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from perdure.domain.alerts.standing import Rule

FENCE = "```"
PROMPT = "$ "


class Section(StrEnum):
    """The parts of a runbook, in their order: each has all of them."""

    MEANING = "What it means"
    IMPACT = "What users notice"
    LOOK = "Look first"
    MEND = "Mend"
    OVER = "When it is over"
    ESCALATE = "Escalate"


class BlockKind(StrEnum):
    """What a block of a section is."""

    TEXT = "text"
    LIST = "list"
    COMMANDS = "commands"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A paragraph (one line), the items of a list, or commands for a shell."""

    kind: BlockKind
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A section with what it holds."""

    title: Section
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """What to do about the alerts of one rule."""

    rule: str
    chapters: tuple[Chapter, ...]

    def commands(self, *sections: Section) -> tuple[str, ...]:
        """The commands of these sections, or of all."""
        return tuple(
            line
            for chapter in self.chapters
            if not sections or chapter.title in sections
            for block in chapter.blocks
            if block.kind is BlockKind.COMMANDS
            for line in block.lines
        )


def parse_runbook(text: str) -> Runbook:
    """A runbook from its Markdown. Raises ValueError, which names the line, when it has another shape."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("# "):
        raise ValueError("line 1: a runbook begins with `# ` and the name of its rule")
    starts = [number for number, line in enumerate(lines) if line.startswith("## ")]
    titles = [lines[number][3:] for number in starts]
    if titles != list(Section):
        raise ValueError(f"its sections are {titles}, and should be {[str(one) for one in Section]}")
    ends = [*starts[1:], len(lines)]
    chapters = tuple(
        Chapter(title=title, blocks=tuple(_blocks(lines[start + 1 : end], start + 2)))
        for title, start, end in zip(Section, starts, ends, strict=True)
    )
    for chapter in chapters:
        if not chapter.blocks:
            raise ValueError(f"the section {chapter.title!r} is empty")
    return Runbook(rule=lines[0][2:], chapters=chapters)


def filled(text: str, rule: Rule, target: str) -> str:
    """The Markdown of a runbook about one target: quoted for a shell in commands; without a target its name stands there.

    A target is somebody's name of a queue or kind, and may hold anything: what could end a line or a block is left out.
    """
    if not rule.label:
        return text
    place = "{" + rule.label + "}"
    name = re.sub(r"[`\x00-\x1f\x7f\u2028\u2029]", "", target) or rule.label.upper()
    return "\n".join(
        line.replace(place, shlex.quote(name) if line.startswith(PROMPT) else name)
        for line in text.split("\n")
    )


def runbook_path(rule: Rule, target: str = "") -> str:
    """The page of a runbook in the dashboard, with its values."""
    return f"/runbooks/{rule.name}" + (f"?target={quote(target, safe='')}" if rule.label and target else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What links in messages begin with: the dashboard, and runbooks of one's own, which are named after their rules."""

    dashboard: str = ""
    runbooks: str = ""

    def page(self, rule: Rule) -> str:
        """The page of the dashboard that shows what a rule is about; empty without a dashboard."""
        return f"{self.dashboard.rstrip('/')}{rule.page}" if self.dashboard else ""

    def runbook(self, rule: Rule, target: str = "") -> str:
        """The runbook of a rule: one's own, or else that of the dashboard with its values; empty without either."""
        if self.runbooks:
            return f"{self.runbooks.rstrip('/')}/{rule.name}"
        return f"{self.dashboard.rstrip('/')}{runbook_path(rule, target)}" if self.dashboard else ""


NOWHERE = Links()


def _blocks(lines: list[str], first: int) -> Iterator[Block]:
    """The blocks of a section; what comes one under the other without an empty line is one block."""
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(FENCE):
            end = next((n for n in range(at + 1, len(lines)) if lines[n] == FENCE), None)
            if end is None:
                raise ValueError(f"line {first + at}: the block of commands does not end")
            yield Block(kind=BlockKind.COMMANDS, lines=tuple(map(_command, lines[at + 1 : end])))
            at = end + 1
        elif line.startswith("- "):
            end = next((n for n in range(at, len(lines)) if not lines[n].startswith("- ")), len(lines))
            yield Block(kind=BlockKind.LIST, lines=tuple(each[2:] for each in lines[at:end]))
            at = end
        else:
            if line:
                yield Block(kind=BlockKind.TEXT, lines=(line,))
            at += 1


def _command(line: str) -> str:
    if not line.startswith(PROMPT):
        raise ValueError(f"a block of commands holds {line!r}, which does not begin with {PROMPT!r}")
    return line[len(PROMPT) :]
