"""Every statement is valid, declares what it takes, and moves jobs only as the law allows."""

import re
from collections.abc import Iterator
from importlib.resources import files
from itertools import zip_longest

import pytest

from perdure.domain.job import TRANSITIONS, JobState
from perdure.stores.postgres.connections import connect
from perdure.stores.postgres.migrations import migrate, migrations
from perdure.stores.postgres.statements import Statement, statements

MODULES = sorted(
    entry.name.removesuffix(".sql")
    for entry in files("perdure.stores.postgres").joinpath("sql").iterdir()
    if entry.name.endswith(".sql")
)
ALL = [
    pytest.param(statement, id=f"{module}.{name}")
    for module in MODULES
    for name, statement in statements(module).items()
]
OPTIONAL_EXTENSION = "pg_stat_statements"
MOVES = re.compile(
    r"\b(?:INSERT INTO|DELETE FROM) perdure\.(available|parked|scheduled|blocked)_jobs\b"
    r"|\b(?:INSERT INTO|DELETE FROM) perdure\.leases\b"
)
LAW = re.compile(r"from: (?P<origins>[a-z, ]+?)\s{2,}to: (?P<ends>[a-z, ]+)$", re.MULTILINE)
FUNCTION = re.compile(r"(?P<comment>(?:^--.*\n)+)CREATE FUNCTION (?P<name>[\w.]+)", re.MULTILINE)


def makes_tables(statement: Statement) -> bool:
    """Several commands cannot be prepared; what they make, other statements of the module need."""
    return not statement.parameters and "CREATE TABLE" in statement.text


@pytest.mark.parametrize("schema", ["perdure", "other-name"])
async def test_every_statement_is_valid(database_url: str, schema: str) -> None:
    await migrate(database_url, schema=schema)
    connection = await connect(database_url, application_name="tests")
    every = [statement for module in MODULES for statement in statements(module, schema).values()]
    for statement in filter(makes_tables, every):
        await connection.execute(statement.text)
    for statement in every:
        if not makes_tables(statement) and OPTIONAL_EXTENSION not in statement.text:
            prepared = await connection.prepare(statement.numbered())
            assert len(prepared.get_parameters()) == len(statement.parameters), statement.name
    await connection.close()


@pytest.mark.parametrize("statement", ALL)
def test_every_parameter_is_declared_and_used(statement: Statement) -> None:
    used = set(re.findall(r"(?<![:\w]):([a-z]\w*)", statement.text))
    assert used == set(statement.parameters)


def lawful(comment: str) -> bool:
    """Whether each origin may go to one of the ends, and each end be reached from one of the origins; or it stays."""
    law = LAW.search(comment)
    if law is None:
        return False
    origins = [None if word == "none" else JobState(word) for word in law["origins"].split(", ")]
    ends = [JobState(word) for word in law["ends"].split(", ")]
    allowed = {
        (origin, end) for origin in origins for end in ends if origin == end or end in TRANSITIONS[origin]
    }
    return {origin for origin, _ in allowed} == set(origins) and {end for _, end in allowed} == set(ends)


@pytest.mark.parametrize("statement", ALL)
def test_a_statement_that_moves_jobs_says_from_where_to_where(statement: Statement) -> None:
    if MOVES.search(statement.text) or LAW.search(statement.comment):
        assert lawful(statement.comment)


def functions() -> Iterator[tuple[str, str, str]]:
    for migration in migrations():
        found = list(FUNCTION.finditer(migration.up))
        for function, following in zip_longest(found, found[1:]):
            body = migration.up[function.end() : following.start() if following else None]
            yield function["name"], function["comment"], body


@pytest.mark.parametrize(("name", "comment", "body"), list(functions()))
def test_a_function_that_moves_jobs_says_from_where_to_where(name: str, comment: str, body: str) -> None:
    if MOVES.search(body) or LAW.search(comment):
        assert lawful(comment), name


def test_the_functions_are_found() -> None:
    names = [name for name, _, body in functions() if MOVES.search(body)]
    assert {
        "perdure.settle_edges",
        "perdure.enqueue_jobs",
        "perdure.enqueue_linked",
        "perdure.unpark",
    } <= set(names)


def test_no_statement_has_a_second_colon_word_that_is_no_parameter() -> None:
    text = "SELECT :id::uuid, 'a' || :name, x::text[] FROM t WHERE at > :at"
    assert Statement("s", ("id", "name", "at"), text, "").numbered() == (
        "SELECT $1::uuid, 'a' || $2, x::text[] FROM t WHERE at > $3"
    )
    assert Statement("s", ("id", "name", "at"), text, "").named() == (
        "SELECT %(id)s::uuid, 'a' || %(name)s, x::text[] FROM t WHERE at > %(at)s"
    )
