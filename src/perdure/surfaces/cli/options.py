"""The options that commands share, each group one dataclass."""

import getpass
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidFilter, InvalidOption

OUTPUT = Group("Output", sort_key=90)
CONNECTION = Group("Connection", sort_key=91)
PAGING = Group("Which and how many", sort_key=80)
CAUTION = Group("Caution", sort_key=70)

_BARE = re.compile(r"(?![<>])[^\s\",]+(?:,(?![<>])[^\s\",]+)*")

_COLUMN = re.compile(r"^column [0-9]+: ")

Format = Literal["auto", "table", "json", "ndjson", "csv", "ids"]


def _os_user() -> str:
    """The user of the operating system, by name where it has one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Shown:
    """How a command shows what it found."""

    output: Annotated[Format, Parameter(name=["--output", "-o"], group=OUTPUT)] = "auto"
    "Format of stdout. `auto`: a table on a terminal, tab-separated elsewhere."
    json: Annotated[bool, Parameter(name="--json", negative="", show_default=False, group=OUTPUT)] = False
    "Short for `-o json`."
    fields: Annotated[str | None, Parameter(group=OUTPUT)] = None
    "Columns to show, separated by commas."
    no_color: Annotated[bool, Parameter(negative="", show_default=False, group=OUTPUT)] = False
    "No colours; the variables NO_COLOR, FORCE_COLOR and TERM=dumb are heeded too."
    verbose: Annotated[
        tuple[bool, ...], Parameter(name=["--verbose", "-v"], negative="", show_default=False, group=OUTPUT)
    ] = ()
    "Tell more on stderr; twice: a traceback with an error."

    @property
    def format(self) -> Format:
        return "json" if self.json else self.output

    @property
    def field_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in (self.fields or "").split(",") if name.strip())


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the settings and the database are."""

    database_url: Annotated[str | None, Parameter(group=CONNECTION)] = None
    "PostgreSQL; otherwise PERDURE_DATABASE_URL, the file of settings, or the embedded server."
    redis_url: Annotated[str | None, Parameter(group=CONNECTION)] = None
    "Redis for faster dispatch."
    schema: Annotated[str | None, Parameter(group=CONNECTION)] = None
    "Schema of the database that holds all tables."
    data_dir: Annotated[Path | None, Parameter(group=CONNECTION)] = None
    "Folder of the embedded servers."
    config: Annotated[Path | None, Parameter(group=CONNECTION)] = None
    "File of settings; otherwise perdure.toml or pyproject.toml, here or above."

    @property
    def flags(self) -> dict[str, object]:
        """What was given here, by the names of the settings."""
        return {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "schema": self.schema,
            "data_dir": self.data_dir,
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Moment:
    """The past moment that a question is about."""

    as_of: Annotated[str | None, Parameter(group=PAGING)] = None
    "Answer as it was then: an ISO time, or how long ago (`2h`)."

    @property
    def at(self) -> datetime | None:
        return None if self.as_of is None else moment(self.as_of, "as_of")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Page:
    """Which part of a long list is shown."""

    limit: Annotated[int, Parameter(group=PAGING)] = 50
    "Most rows."
    cursor: Annotated[str | None, Parameter(group=PAGING)] = None
    "Go on where the page before ended; it is named on stderr, and in JSON as next_cursor."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which jobs a command means."""

    state: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only jobs in this state."
    queue: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only jobs of this queue."
    kind: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only jobs of this kind."
    since: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only what is younger: `2h`, or an ISO time."
    until: Annotated[str | None, Parameter(group=PAGING)] = None
    "Only what is older: `2h`, or an ISO time."

    def terms(self, text: str = "") -> str:
        """The filter text with the options as further terms."""
        names = ("state", "queue", "kind", "since", "until")
        given = ((name, getattr(self, name)) for name in names)
        return " ".join([text, *(_term(name, value) for name, value in given if value is not None)]).strip()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Matching(Selection):
    """Which jobs a command changes, if they are not named by their ids."""

    filter: Annotated[str, Parameter(group=PAGING)] = ""
    "All that match, such as `state:failed kind:send*`."

    @property
    def text(self) -> str:
        return self.terms(self.filter)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Watch:
    """Whether a command repeats itself."""

    watch: Annotated[str | None, Parameter(group=OUTPUT)] = None
    "Show it again and again; `--watch` alone means every 2 s, `--watch=500ms` sets the pace."

    @property
    def interval(self) -> timedelta | None:
        return None if self.watch is None else parse_duration(self.watch, "watch")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Caution:
    """Who changes something, why, and whether really."""

    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", show_default=False, group=CAUTION)] = (
        False
    )
    "Do it without asking, though it changes many."
    dry_run: Annotated[bool, Parameter(negative="", show_default=False, group=CAUTION)] = False
    "Change nothing; show what would be changed."
    reason: Annotated[str, Parameter(group=CAUTION)] = ""
    "Why; it is kept with the event."
    actor: Annotated[str, Parameter(group=CAUTION, show_default=False)] = field(default_factory=_os_user)
    "Who; by default the user of the operating system."


AS_USUAL = Shown()
AS_SET = Connection()
NOW = Moment()
FIRST_PAGE = Page()
ANY = Selection()
NOTHING = Matching()
ONCE = Watch()
CAREFUL = Caution()


def moment(text: str, name: str) -> datetime:
    """A moment as people write it: an ISO time (UTC unless it says otherwise), or how long ago."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        try:
            return datetime.now(UTC) - parse_duration(text, name)
        except InvalidOption:
            why = f"{text!r} is neither a time nor a duration"
            raise InvalidOption(name, why, next_step='write "2h" or "2030-01-31T12:00Z"') from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _term(name: str, value: str) -> str:
    """An option as a term of a filter. Raises InvalidOption, which names the option: nobody wrote a filter."""
    from perdure.domain.criteria import compile_filter
    from perdure.domain.filters import parse

    term = f"{name}:{quoted(value)}"
    try:
        compile_filter(parse(term))
    except InvalidFilter as error:
        raise InvalidOption(name, _COLUMN.sub("", error.why), next_step=error.next_step) from None
    return term


def quoted(value: str) -> str:
    """A value of a filter, in quotation marks where it needs them; commas between values and `*` keep their sense."""
    if _BARE.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
