"""Loads the named statements of the `.sql` files and renders them for a schema and a driver's style of parameters."""

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

DEFAULT_SCHEMA = "perdure"

_HEADER = re.compile(r"^-- name: (?P<name>\w+)\((?P<parameters>[^)]*)\)$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
_SCHEMA = re.compile(r"\bperdure\.(?=[\w%])")


@dataclass(frozen=True, slots=True)
class Statement:
    """One named statement; `parameters` is the order in which values are handed in."""

    name: str
    parameters: tuple[str, ...]
    text: str
    comment: str
    _numbered: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        order = {name: f"${number}" for number, name in enumerate(self.parameters, start=1)}
        object.__setattr__(self, "_numbered", _PARAMETER.sub(lambda match: order[match[1]], self.text))

    def numbered(self) -> str:
        """The text with `$1, $2, ...`, as asyncpg takes it; made once, for it is asked for with every call."""
        return self._numbered

    def named(self) -> str:
        """The text with `%(name)s`, as psycopg takes it."""
        return _PARAMETER.sub(lambda match: f"%({match[1]})s", self.text.replace("%", "%%"))


def in_schema(text: str, schema: str) -> str:
    """Point every `perdure.` of an SQL text at `schema`, quoted."""
    if schema == DEFAULT_SCHEMA:
        return text
    quoted = '"' + schema.replace('"', '""') + '"'
    return _SCHEMA.sub(lambda _: f"{quoted}.", text)


@cache
def statements(module: str, schema: str = DEFAULT_SCHEMA) -> dict[str, Statement]:
    """The statements of `sql/<module>.sql`, by name."""
    return parsed(
        files("perdure.stores.postgres").joinpath("sql", f"{module}.sql").read_text("utf-8"), schema
    )


def parsed(source: str, schema: str = DEFAULT_SCHEMA) -> dict[str, Statement]:
    """The statements of a text, by name."""
    headers = list(_HEADER.finditer(source))
    found: dict[str, Statement] = {}
    for header, after in zip(headers, [*headers[1:], None], strict=True):
        body = source[header.end() : after.start() if after else len(source)].strip()
        comment, text = _split_comment(body)
        parameters = tuple(part.strip() for part in header["parameters"].split(",") if part.strip())
        found[header["name"]] = Statement(header["name"], parameters, in_schema(text, schema), comment)
    return found


def _split_comment(body: str) -> tuple[str, str]:
    lines = body.splitlines()
    count = next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))
    comment = "\n".join(line.removeprefix("--").strip() for line in lines[:count])
    return comment, "\n".join(lines[count:]).strip().rstrip(";")
