"""Writes what a run measured into the page of faults, between two marks, so that no figure is written by hand."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from perdure.domain.errors import InvalidOption
from perdure.torture.catalogue import ROWS, Row
from perdure.torture.mixed import Mixed
from perdure.torture.playing import Outcome
from perdure.torture.run import Ran
from perdure.torture.scenario import SCENARIOS, Entry

BEGIN = "<!-- {part}: written by `perdure torture`, not by hand -->"
END = "<!-- end: {part} -->"
HEAD = (
    "| # | Fault | Must hold, besides S1–S7 and L1 | How it is produced | Result | Work went on after | Repeat it |",
    "|---:|---|---|---|---|---:|---|",
)


def write_report(page: Path, runs: Sequence[Ran]) -> None:
    """Put the figures of these runs in the place of the last ones; of a scenario the last run counts.

    Raises InvalidOption when the page has no such place.
    """
    mixed = [(ran, ran.mixed) for ran in runs if ran.mixed is not None]
    single = [ran for ran in runs if ran.mixed is None]
    try:
        text = page.read_text("utf-8")
    except OSError as error:
        raise InvalidOption("report", f"{page} cannot be read: {error.strerror}") from None
    if single:
        text = _with(text, "scenarios", _scenarios(single), page)
    if mixed:
        text = _with(text, "mixed", "\n\n".join(_mixed(ran, one) for ran, one in mixed), page)
    page.write_text(text, "utf-8")


def _with(text: str, part: str, figures: str, page: Path) -> str:
    begin, end = BEGIN.format(part=part), END.format(part=part)
    place = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if not place.search(text):
        step = f"write `{begin}` and `{end}` into it"
        raise InvalidOption("report", f"{page} has no place for the figures", next_step=step)
    return place.sub(lambda _: f"{begin}\n{figures}\n{end}", text)


def _scenarios(runs: Sequence[Ran]) -> str:
    outcomes = {one.name: one for ran in runs for one in ran.scenarios}
    lines = [
        "Measured in these runs; of a scenario that was played in several, the last counts:",
        "",
        *(f"- {_circumstances(ran)}" for ran in runs),
        "",
        *HEAD,
    ]
    for row in ROWS:
        lines += _lines(row, outcomes)
    return "\n".join(lines)


def _lines(row: Row, outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line for each proof of a row; number, fault and property stand in the first."""
    proofs = [
        _played(entry, outcomes) for entry in SCENARIOS.values() if row.number in entry.scenario.numbers
    ]
    proofs += [("a test of its own", "holds", "", f"`{test}`") for test in row.tests]
    if row.open:
        proofs.append(("", f"open: {row.open}", "", ""))
    heads = [(str(row.number), row.fault, row.holds), *[("", "", "")] * (len(proofs) - 1)]
    return [f"| {' | '.join((*head, *proof))} |" for head, proof in zip(heads, proofs, strict=True)]


def _played(entry: Entry, outcomes: Mapping[str, Outcome]) -> tuple[str, str, str, str]:
    scenario, outcome = entry.scenario, outcomes.get(entry.scenario.name)
    command = f"`perdure torture --only {scenario.name}`"
    told = f"{scenario.produced}: {scenario.holds}"
    if outcome is None or outcome.skipped:
        return told, f"not played in this run{f', {outcome.skipped}' if outcome else ''}", "", command
    went_on = (
        "" if outcome.recovered_s is None else f"{outcome.recovered_s:.1f} s (bound {scenario.within_s:g} s)"
    )
    notes = "".join(f"; {remark}" for remark in outcome.remarks)
    return told, f"{'holds' if outcome.ok else '**BROKEN**'}{notes}", went_on, command


def _mixed(ran: Ran, mixed: Mixed) -> str:
    times = [one for each in mixed.recovered_s.values() for one in each]
    told = (
        f"{mixed.minutes:.0f} minutes, {mixed.faults} faults, {mixed.checks} checks of everything that had happened until then, "
        f"{mixed.jobs:,} jobs acknowledged to their producer, which had to repeat {mixed.repeated} calls. "
        f"Broken promises: {len(mixed.broken) or 'none'}. Work went on after {median(times):.1f} s (median), "
        f"{max(times):.1f} s at most."
    )
    head = ("| Fault | Struck | Work went on after: median | at most |", "|---|---:|---:|---:|")
    lines = [_circumstances(ran), "", told, "", *head]
    for name, each in sorted(mixed.recovered_s.items()):
        lines.append(f"| {name} | {len(each)} | {median(each):.1f} s | {max(each):.1f} s |")
    ends = ", ".join(f"{count:,} {outcome}" for outcome, count in mixed.outcomes.items())
    return "\n".join([*lines, "", f"Attempts: {ends}."])


def _circumstances(ran: Ran) -> str:
    servers = ", ".join(f"{name} {version}" for name, version in ran.servers.items())
    machine = ran.machine
    played = f"{len(ran.scenarios)} scenarios, {ran.at_once} at once, in" if ran.scenarios else "in"
    return (
        f"Seed {ran.seed}; {servers}; {machine['processor']}, {machine['cores']} cores, load {machine['load_before']} "
        f"before it began; {played} {ran.took_s / 60:.0f} minutes."
    )
