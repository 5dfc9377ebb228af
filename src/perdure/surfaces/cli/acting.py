"""What the commands that change jobs have in common: preview, confirmation, report, exit code."""

import re
from collections.abc import Awaitable, Sequence
from typing import Protocol
from uuid import UUID

from perdure.domain.errors import InvalidOption, PerdureError
from perdure.domain.views import CHANGES, ActOutcome, ActReport
from perdure.surfaces.cli.confirm import confirm
from perdure.surfaces.cli.exits import Exit, code_of
from perdure.surfaces.cli.options import Caution, Shown
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.tables import Column
from perdure.surfaces.cli.text import plain

ACTED = (Column("job_id", "JOB"), Column("outcome", "OUTCOME"), Column("error", "WHY NOT", "red"))
_HEX = re.compile(r"[0-9a-f]{4,64}")
FINE = CHANGES | {ActOutcome.UNCHANGED}


class OneAct(Protocol):
    """A command of Act on one job."""

    def __call__(
        self, job_id: UUID, /, *, actor: str, reason: str, dry_run: bool
    ) -> Awaitable[ActReport]: ...


class Every(Protocol):
    """A command of Act on all jobs that match."""

    def __call__(self, *, actor: str, reason: str, dry_run: bool) -> Awaitable[ActReport]: ...


def ids_of(texts: Sequence[str]) -> list[UUID]:
    """The ids as they are written. Raises InvalidOption."""
    return [id_of(text) for text in texts]


def id_of(text: str) -> UUID:
    """One id as it is written. Raises InvalidOption."""
    try:
        return UUID(text)
    except ValueError:
        group = f"; for a group of dead letters: --filter fingerprint:{text}" if _HEX.fullmatch(text) else ""
        next_step = f"see `perdure job list -o ids`{group}"
        raise InvalidOption("id", f"{text!r} is not a job id", next_step=next_step) from None


def one_selection(ids: Sequence[str], filter: str) -> None:
    """Refuse a command that names no jobs, or names them twice over."""
    if bool(ids) == bool(filter):
        why = "name jobs by their ids or by a filter, not by both" if ids else "which jobs?"
        raise InvalidOption("selection", why, next_step="give ids, or --filter 'state:failed kind:send*'")


async def on_each(ids: Sequence[UUID], act: OneAct, caution: Caution, shown: Shown) -> Exit:
    """Do it to each job; one that refuses does not stop the others."""
    records, failures = [], []
    for job_id in ids:
        try:
            report = await act(job_id, actor=caution.actor, reason=caution.reason, dry_run=caution.dry_run)
        except PerdureError as error:
            if len(ids) == 1:
                raise
            failures.append(error)
            records.append({"job_id": job_id, "outcome": "refused", "error": error.message})
        else:
            records.append({"job_id": job_id, "outcome": _outcome(report), "error": ""})
    show_list(
        Listing(
            schema="perdure.acted_list/1",
            item="perdure.acted/1",
            columns=ACTED,
            records=records,
            key="job_id",
        ),
        shown,
    )
    if not failures:
        return Exit.DONE
    return code_of(failures[0]).exit if len(failures) == len(ids) else Exit.PARTLY


async def on_chosen(ids: Sequence[str], one: OneAct, every: Every, caution: Caution, shown: Shown) -> Exit:
    """Do it to the jobs that are named, or to all that match."""
    if ids:
        return await on_each(ids_of(ids), one, caution, shown)
    return await in_bulk(every, caution, shown)


async def in_bulk(every: Every, caution: Caution, shown: Shown) -> Exit:
    """Count what matches, ask, do it, and tell what came of it."""
    by = {"actor": caution.actor, "reason": caution.reason}
    preview = await every(**by, dry_run=True)
    _tell_some(preview)
    if caution.dry_run:
        _show(preview, shown)
        return Exit.DONE
    if preview.matched:
        confirm(
            preview.matched,
            f"jobs match and are to be changed ({preview.verb})",
            yes=caution.yes,
            one=f"job matches and is to be changed ({preview.verb})",
        )
    report = await every(**by, dry_run=False)
    _show(report, shown)
    return exit_of(report)


def exit_of(report: ActReport) -> Exit:
    """Done, partly done, or refused, by what became of the jobs that matched."""
    fine = sum(count for outcome, count in report.outcomes.items() if outcome in FINE)
    refused = sum(report.outcomes.values()) - fine
    if not refused:
        return Exit.DONE
    return Exit.PARTLY if fine else Exit.REFUSED


def show_report(report: ActReport, shown: Shown) -> Exit:
    """Print what one command did, and give its exit code."""
    _show(report, shown)
    return Exit.DONE


def _tell_some(report: ActReport) -> None:
    """The newest jobs of a preview, and how many there are besides."""
    for view in report.sample:
        tell(f"  {view.id}  {view.state}  {view.queue}  {view.kind}")
    if more := report.matched - len(report.sample):
        tell(f"  and {more:,} more")


def _show(report: ActReport, shown: Shown) -> None:
    record = record_of(report)
    record["changed"] = report.changed
    if shown.format in {"json", "ndjson"}:
        show_one("perdure.report/1", record, shown, key="verb")
        return
    outcomes = {plain(outcome): count for outcome, count in report.outcomes.items()}
    told = {"verb": report.verb, "dry_run": report.dry_run, "matched": report.matched, **outcomes}
    if report.finishes_in is not None:
        told["finishes_in"] = report.finishes_in
    if report.note:
        told["note"] = report.note
    show_one("perdure.report/1", told, shown, key="verb")


def _outcome(report: ActReport) -> str:
    if report.dry_run:
        return "would change" if report.matched else "unchanged"
    return report.acted[0].outcome if report.acted else next(iter(report.outcomes), ActOutcome.UNCHANGED)
