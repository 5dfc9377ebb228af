"""The source keeps its own rules: budgets, one place for SQL, words and pages that tell the truth."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.domain.job import TRANSITIONS, JobState

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "perdure"
FILES = sorted(SOURCE.rglob("*.py"))
SQL_FILES = sorted((SOURCE / "stores" / "postgres" / "sql").glob("*.sql"))

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400
PUBLIC_METHODS_MAX = 14
SUPPRESSIONS_MAX = 10
SUPPRESSION = re.compile(
    r"#\s*(type:\s*ignore|noqa|pyright:\s*ignore|pragma: no cover)(\[[\w, -]+\]|: [A-Z]+\d+)*"
)

# The application object, the reading services and the words of a torture scenario are faces: their methods are the product, not a knot.
WIDE_CLASSES = {"Perdure": 19, "Read": 14, "PostgresInsights": 14, "Insights": 14, "Place": 22}

# Who may say SQL outside of a .sql file, and why.
SQL_IN_PYTHON = {
    "stores/postgres/migrations/__init__.py": "the table of migrations must exist before any file can be recorded",
    "stores/postgres/dispatch.py": "session settings of the claiming connection",
    "stores/postgres/connections.py": "session settings",
    "stores/postgres/schema_dump.py": "a tool of the developers",
}

ENVIRONMENT = {
    "runtime/settings_sources.py": "the settings",
    "runtime/spawned.py": "has a started worker's handlers print at once",
    "runtime/exported.py": "hands the settings on to handlers",
    "surfaces/cli/text.py": "NO_COLOR, FORCE_COLOR and TERM, which are no settings of ours",
    "surfaces/cli/output.py": "the same",
}


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= FILE_LINES_MAX, "split the file by what it is about"
    long = {
        node.name: node.end_lineno - node.lineno
        for node in functions(ast.parse(text))
        if node.end_lineno is not None and node.end_lineno - node.lineno > FUNCTION_LINES_MAX
    }
    assert not long, "push the ifs up and the fors down"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_and_public_class_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not silent


def test_classes_are_narrow() -> None:
    wide = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                methods = [
                    one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
                ]
                public = sum(not one.name.startswith("_") for one in methods)
                if public > WIDE_CLASSES.get(node.name, PUBLIC_METHODS_MAX):
                    wide[node.name] = public
    assert not wide


def test_suppressions_are_few_and_say_why() -> None:
    found = {
        f"{name_of(path)}:{number}": line[match.end() :]
        for path in FILES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if (match := SUPPRESSION.search(line))
    }
    assert len(found) <= SUPPRESSIONS_MAX, "the number may fall, never rise"
    assert [place for place, reason in found.items() if not re.search(r"\w+ \w+", reason)] == []


def test_no_file_is_named_after_nothing() -> None:
    for path in FILES:
        assert not re.search(r"util|helper|manager|common|misc|\bbase\b", path.stem), path


SQL_TEXT = re.compile(
    r"\b(SELECT\b.+\bFROM|INSERT INTO|UPDATE \S+ SET|DELETE FROM|CREATE TABLE)\b", re.DOTALL
)


def test_sql_lives_in_sql_files() -> None:
    strays = []
    for path in FILES:
        if name_of(path) in SQL_IN_PYTHON:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        strays += [
            f"{name_of(path)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documentation
            and SQL_TEXT.search(node.value)
        ]
    assert not strays


def test_every_statement_is_used_and_says_what_it_is_for() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in FILES)
    for path in SQL_FILES:
        text = path.read_text("utf-8")
        assert text.startswith("-- "), f"{path.name} does not say what it is for"
        for match in re.finditer(r"^-- name: (\w+)\([^)]*\)\n(.*)$", text, re.MULTILINE):
            assert match[2].startswith("-- "), f"{path.name}: {match[1]} does not say what it is for"
            family = f'f"{match[1].partition("_")[0]}_{{'
            used = f'"{match[1]}"' in sources or family in sources
            assert used, f"{path.name}: {match[1]} is used nowhere"


@pytest.mark.parametrize(
    "files",
    [SOURCE / "stores" / "postgres" / "migrations", ROOT / "docs" / "decisions"],
    ids=["migrations", "decisions"],
)
def test_numbers_follow_each_other_and_none_is_given_twice(files: Path) -> None:
    numbers = sorted(
        int(path.name[:4])
        for path in files.iterdir()
        if path.suffix in {".sql", ".md"} and not path.name.endswith(".rollback.sql")
    )
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_environment_is_read_in_one_place() -> None:
    readers = {
        name_of(path)
        for path in FILES
        if re.search(r"os\.environ|getenv|environb", path.read_text("utf-8")) and "demo/" not in name_of(path)
    }
    assert not {
        reader for reader in readers - ENVIRONMENT.keys() if not reader.startswith("runtime/embedded/")
    }


def test_the_diagram_shows_the_law() -> None:
    text = (ROOT / "docs" / "states.md").read_text("utf-8")
    drawn = {
        (None if source == "[*]" else JobState(source), JobState(target))
        for source, target in re.findall(r"^\s+(\[\*\]|\w+) --> (\w+)$", text, re.MULTILINE)
    }
    assert drawn == {(source, target) for source, targets in TRANSITIONS.items() for target in targets}


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not re.match(r"[a-z]+:", target):
            yield target


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        assert (page.parent / target).exists(), f"{target} is not there"


def test_the_project_speaks_of_itself_alone() -> None:
    """No path of a machine and no host of a package registry stands in any file."""
    forbidden = re.compile(r"(?<![\w.])/(?:work|farm|root)/|pypi\.org|files\.pythonhosted|registry\.npmjs")
    for folder in ("src", "tests", "docs", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".md", ".sql", ".lua", ".toml"} and path != Path(__file__):
                assert not forbidden.search(path.read_text("utf-8")), path
