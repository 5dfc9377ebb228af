r"""The filter language of every face: text to a tree and back, with errors that point at their column.

    filter     = [ term ] { blank term } ;
    term       = [ "-" ] ( word | field operator values ) ;
    word       = values ;                                  (* substring of the kind or the error *)
    field      = "state" | "kind" | "queue" | "label" | "priority" | "attempt" | "worker" | "error" | "fingerprint"
               | "key" | "id" | "since" | "until" | "args" "." key { "." key } ;
    key        = key_char { key_char } | quoted ;
    operator   = ":" | ":>=" | ":<=" | ":>" | ":<" | "~" ;  (* "~": contains, whatever the case *)
    values     = value { "," value } ;                     (* a comma means or *)
    value      = bare_char { bare_char } | quoted ;        (* "*" in a bare value stands for any text *)
    quoted     = '"' { any but '"' and "\\" | "\\" any } '"' ; (* every character means itself *)
    bare_char  = any but blank, '"' and "," ;
    key_char   = any but blank, '"', ",", ".", ":" and "~" ;

Terms are and-ed. A bare value that begins with "<" or ">" is a comparison, a bare word with ":" or "~" in it is a field;
quote them to mean the text. docs/reference/filters.md says what each field compares.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import NoReturn

from perdure.domain.errors import InvalidFilter
from perdure.domain.job import PRIORITIES, JobState

LENGTH_MAX = 2_000
DEPTH_MAX = 20
WORD = ""
ARGS = "args"
FAILED = "failed"
FAILED_STATES = frozenset({JobState.RETRYABLE, JobState.DISCARDED})
"""What the alias `failed` means: the last attempt failed, and the job waits for another or has given up."""


class Operator(StrEnum):
    """How a field is compared with the values of a term."""

    IS = ":"
    AT_LEAST = ":>="
    AT_MOST = ":<="
    ABOVE = ":>"
    BELOW = ":<"
    CONTAINS = "~"


COMPARISONS = frozenset({Operator.AT_LEAST, Operator.AT_MOST, Operator.ABOVE, Operator.BELOW})
_TEXT = frozenset({Operator.IS, Operator.CONTAINS})
_NUMBER = COMPARISONS | {Operator.IS}
FIELDS = {
    "state": frozenset({Operator.IS}),
    "kind": _TEXT,
    "queue": _TEXT,
    "label": _TEXT,
    "priority": _NUMBER,
    "attempt": _NUMBER,
    "worker": _TEXT,
    "error": _TEXT,
    "fingerprint": _TEXT,
    "key": _TEXT,
    "id": frozenset({Operator.IS}),
    "since": frozenset({Operator.IS}),
    "until": frozenset({Operator.IS}),
    ARGS: _NUMBER | _TEXT,
}
"""Every field with the operators that it takes."""

_BLANK = re.compile(r"\s*")
_BARE = re.compile(r"[^\s\",]+")
_KEY = re.compile(r"[^\s\",.:~]+")
_NAME = re.compile(r"(?:args(?=[.:~])|[^\s\",:~]*(?=[:~]))")
_MINUS = re.compile("-")
_DOT = re.compile(r"\.")
_COMMA = re.compile(",")
_OPERATOR = re.compile(r":>=|:<=|:>|:<|:|~")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value as written; a quoted one means itself, in a bare one `*` stands for any text."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition: the field compares with any of the values, or with none of them when negated.

    `column` is where it began in the text, from 1; terms that differ only in it are equal.
    """

    field: str
    operator: Operator
    values: tuple[Value, ...]
    path: tuple[str, ...] = ()
    negated: bool = False
    column: int = dataclasses.field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Conditions that must all hold."""

    terms: tuple[Term, ...] = ()


def parse(text: str) -> Filter:
    """The filter that `text` writes; InvalidFilter names the column of the first fault."""
    return _Parser(text).filter()


def format_filter(filter: Filter) -> str:
    """Text that `parse` reads back as the same filter."""
    return " ".join(_format_term(term) for term in filter.terms)


def refuse(column: int, why: str, *, next_step: str = "") -> NoReturn:
    """Raise InvalidFilter for the fault at this column, counted from 1."""
    raise InvalidFilter("filter", f"column {column}: {why}", next_step=next_step)


def nearest(word: str, known: Sequence[str]) -> str:
    """A next step that names what was probably meant, or all there is."""
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"


class _Parser:
    """Reads one text from left to right; `at` is where it stands."""

    def __init__(self, text: str) -> None:
        if len(text) > LENGTH_MAX:
            refuse(LENGTH_MAX + 1, f"a filter has at most {LENGTH_MAX} characters")
        if unfit := _UNFIT.search(text):
            refuse(unfit.start() + 1, "contains a character that no text in the database can have")
        self._text = text
        self._at = 0

    def filter(self) -> Filter:
        terms = []
        while not self._done():
            terms.append(self._term())
        return Filter(terms=tuple(terms))

    def _done(self) -> bool:
        self._take(_BLANK)
        return self._at == len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return match

    def _term(self) -> Term:
        column = self._at + 1
        negated = self._take(_MINUS) is not None
        name = self._take(_NAME)
        path: tuple[str, ...] = ()
        if name is None:
            field, operator = WORD, Operator.CONTAINS
        else:
            field = self._known(name)
            path = self._path() if field == ARGS else ()
            operator = self._operator(field)
        values = self._values(f"a value after {field}{operator}" if field else "a word")
        return Term(field=field, operator=operator, values=values, path=path, negated=negated, column=column)

    def _known(self, name: re.Match[str]) -> str:
        if name[0] not in FIELDS:
            step = nearest(name[0], tuple(FIELDS)) + "; quote a word to search for it as it is"
            refuse(name.start() + 1, f"there is no field {name[0]!r}", next_step=step)
        return name[0]

    def _path(self) -> tuple[str, ...]:
        keys: list[str] = []
        while self._take(_DOT):
            quoted = self._take(_QUOTED)
            bare = None if quoted else self._take(_KEY)
            if quoted is None and bare is None:
                refuse(self._at + 1, "a key is missing after args.", next_step="write args.user_id:42")
            keys.append(_ESCAPE.sub(r"\1", quoted[1]) if quoted else str(bare and bare[0]))
        if not 1 <= len(keys) <= DEPTH_MAX:
            refuse(
                self._at + 1, f"args needs a key, and at most {DEPTH_MAX}", next_step="write args.user_id:42"
            )
        return tuple(keys)

    def _operator(self, field: str) -> Operator:
        start = self._at + 1
        match = self._take(_OPERATOR)
        if match is None:
            refuse(start, f"after {field} comes one of : :>= :<= :> :< ~")
        operator = Operator(match[0])
        if operator not in FIELDS[field]:
            known = " ".join(sorted(FIELDS[field]))
            refuse(start, f"{field} cannot be compared by {operator}", next_step=f"{field} takes {known}")
        return operator

    def _values(self, what: str) -> tuple[Value, ...]:
        values = [self._value(what)]
        while self._take(_COMMA):
            values.append(self._value("a value after the comma"))
        if self._at < len(self._text) and not self._text[self._at].isspace():
            refuse(self._at + 1, f"a blank is missing before {self._text[self._at]}")
        return tuple(values)

    def _value(self, what: str) -> Value:
        start = self._at
        if quoted := self._take(_QUOTED):
            return Value(text=_ESCAPE.sub(r"\1", quoted[1]), quoted=True)
        if bare := self._take(_BARE):
            return Value(text=bare[0])
        if self._text.startswith('"', start):
            refuse(start + 1, "this quote is never closed")
        refuse(start + 1, f"{what} is missing")


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _format_term(term: Term) -> str:
    path = "".join(f".{key if _KEY.fullmatch(key) else _quote(key)}" for key in term.path)
    values = ",".join(_quote(value.text) if value.quoted else value.text for value in term.values)
    operator = "" if term.field == WORD else term.operator.value
    return f"{'-' if term.negated else ''}{term.field}{path}{operator}{values}"


def complete(text: str) -> list[str]:
    """What the last term of `text` may become, each as the whole term."""
    term = "" if not text or text[-1].isspace() else text.rsplit(maxsplit=1)[-1]
    sign, body = ("-", term[1:]) if term.startswith("-") else ("", term)
    name, colon, value = body.partition(":")
    if not colon:
        fields = [f"{field}." if field == ARGS else f"{field}:" for field in FIELDS]
        return [sign + field for field in fields if field.startswith(name)]
    done, _, begun = value.rpartition(",")
    start = f"{sign}{name}:{done}{',' if done else ''}"
    return [start + choice for choice in _choices(name) if choice.startswith(begun) and choice != begun]


def _choices(field: str) -> list[str]:
    match field:
        case "state":
            return [*JobState, FAILED]
        case "priority":
            return [*(str(priority) for priority in PRIORITIES), ">=4"]
        case "since" | "until":
            return ["15m", "1h", "24h", "7d"]
        case _:
            return []
