"""Writes what a run measured into the page of faults, between two marks, so that no figure is written by hand."""

import re
from pathlib import Path

from perdure.domain.errors import InvalidOption
from perdure.torture.run import Ran

PART = "<!-- {mark}: written by `perdure torture --report`, not by hand -->"
END = "<!-- end of {mark} -->"


def write_report(page: Path, ran: Ran) -> None:
    """Put the figures of a run in the place of the last ones. Raises InvalidOption when the page has no such place."""
    mark, text = ("mixed run", _mixed(ran)) if ran.mixed is not None else ("scenarios", _scenarios(ran))
    try:
        before = page.read_text("utf-8")
    except OSError as error:
        raise InvalidOption("report", f"{page} cannot be read: {error.strerror}") from None
    begin, end = PART.format(mark=mark), END.format(mark=mark)
    place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not place.search(before):
        raise InvalidOption(
            "report", f"{page} has no place for the figures", next_step=f"write `{begin}` and `{end}` into it"
        )
    page.write_text(place.sub(lambda _: f"{begin}\n{text}\n{end}", before), "utf-8")


def _mixed(ran: Ran) -> str:
    mixed = ran.mixed
    if mixed is None:
        return ""
    return f"{mixed.faults}"


def _scenarios(ran: Ran) -> str:
    return ""
