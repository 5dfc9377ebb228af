"""What can be said of one file of Python source."""

import ast
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

WORST_KEPT = 5
SKIPPED = frozenset({"site-packages", "dist-packages", "__pycache__", "node_modules"})
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
)
LEAVES = frozenset({ast.Name, ast.Constant, ast.Load, ast.Store, ast.Pass, ast.arg})
"""Nodes below which nothing is counted; leaving them out halves the time. Annotations branch nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function and its cyclomatic complexity: one, and one for each branch in it."""

    path: str
    name: str
    line: int
    complexity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """The figures of one file; `fault` says why it is no Python, and then only `size` and `lines` count."""

    path: str
    size: int
    lines: int
    functions: int = 0
    classes: int = 0
    complexity: int = 0
    worst: tuple[Function, ...] = ()
    imports: tuple[str, ...] = ()
    fault: str = ""


def python_files(folder: Path) -> Iterator[str]:
    """The files of Python source below `folder`, relative to it, in order; hidden and third-party folders are left out."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir() and entry.name not in SKIPPED:
            for path in python_files(entry):
                yield f"{entry.name}/{path}"
        elif entry.suffix == ".py" and entry.is_file():
            yield entry.name


def package_of(path: str) -> str:
    """The package of a file, by its folder; empty for the files at the top."""
    return ".".join(PurePosixPath(path).parent.parts)


def by_package(paths: Iterable[str]) -> dict[str, list[str]]:
    """The files of each package, in the order in which they come."""
    packages: dict[str, list[str]] = {}
    for path in paths:
        packages.setdefault(package_of(path), []).append(path)
    return packages


def module_of(path: str) -> str:
    """The name under which a file is imported."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def facts_of(source: bytes, path: str) -> FileFacts:
    """Read one file. Raises SyntaxError when it is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the files that are read, not of this program
        try:
            tree = ast.parse(source, filename=path)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error)) from error
    survey = _Survey(path)
    survey.walk(tree)
    functions = sorted(survey.functions, key=lambda found: (-found.complexity, found.line))
    return FileFacts(
        path=path,
        size=len(source),
        lines=line_count(source),
        functions=len(functions),
        classes=survey.classes,
        complexity=sum(function.complexity for function in functions),
        worst=tuple(functions[:WORST_KEPT]),
        imports=tuple(sorted(survey.imports)),
    )


def line_count(source: bytes) -> int:
    """Lines as editors count them: the last one needs no end."""
    return source.count(b"\n") + bool(source and not source.endswith(b"\n"))


class _Survey:
    """One pass over a tree, with a stack of its own: real code nests deeper than Python recurses."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._package = package_of(path)
        self.functions: list[Function] = []
        self.classes = 0
        self.imports: set[str] = set()

    def walk(self, tree: ast.AST) -> None:
        scores: list[int] = []
        stack: list[tuple[ast.AST, int]] = [(tree, -1)]
        found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        while stack:
            node, owner = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                owner = len(scores)
                scores.append(1)
                found.append(node)
            elif owner >= 0:
                scores[owner] += _branches(node)
            self._note(node)
            stack.extend((child, owner) for child in ast.iter_child_nodes(node) if type(child) not in LEAVES)
        for function, score in zip(found, scores, strict=True):
            self.functions.append(
                Function(path=self._path, name=function.name, line=function.lineno, complexity=score)
            )

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef):
            self.classes += 1
        elif isinstance(node, ast.Import):
            self.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            self.imports.update(self._origins(node))

    def _origins(self, node: ast.ImportFrom) -> Iterator[str]:
        """The modules that `from ... import ...` reads, relative ones by their full names."""
        if not node.level:
            yield node.module or ""
            return
        parts = self._package.split(".") if self._package else []
        anchor = parts[: len(parts) - node.level + 1]
        if node.module:
            yield ".".join([*anchor, node.module])
        else:
            yield from (".".join([*anchor, alias.name]) for alias in node.names if alias.name != "*")


def _branches(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return isinstance(node, BRANCHES)
