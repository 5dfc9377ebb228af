"""What can be said of a package, from the figures of its files, and of all packages together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perdure.demo.source import FileFacts, Function, module_of

WORST_KEPT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFacts:
    """The sums over the files of one package; `imports` counts the files that import each module."""

    package: str
    digest: str
    files: int
    faults: tuple[str, ...]
    size: int
    lines: int
    functions: int
    classes: int
    complexity: int
    worst: tuple[Function, ...]
    modules: tuple[str, ...]
    imports: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The sums over all packages."""

    packages: int
    files: int
    faults: int
    size: int
    lines: int
    functions: int
    classes: int
    complexity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportGraph:
    """Which package needs which: an edge for each pair; a circle is a set of packages that all need each other."""

    edges: int
    outside: int
    most_needed: tuple[tuple[str, int], ...]
    neediest: tuple[tuple[str, int], ...]
    circles: tuple[tuple[str, ...], ...]


def package_facts(package: str, digest: str, files: Sequence[FileFacts]) -> PackageFacts:
    """The sums over the files of one package."""
    return PackageFacts(
        package=package,
        digest=digest,
        files=len(files),
        faults=tuple(f"{facts.path}: {facts.fault}" for facts in files if facts.fault),
        size=sum(facts.size for facts in files),
        lines=sum(facts.lines for facts in files),
        functions=sum(facts.functions for facts in files),
        classes=sum(facts.classes for facts in files),
        complexity=sum(facts.complexity for facts in files),
        worst=worst_of(function for facts in files for function in facts.worst),
        modules=tuple(module_of(facts.path) for facts in files),
        imports=dict(Counter(name for facts in files for name in facts.imports)),
    )


def worst_of(functions: Iterable[Function], most: int = WORST_KEPT) -> tuple[Function, ...]:
    """The most complex functions first; equal ones by their place."""
    return tuple(sorted(functions, key=lambda f: (-f.complexity, f.path, f.line))[:most])


def totals_of(packages: Sequence[PackageFacts]) -> Totals:
    """The sums over all packages."""
    return Totals(
        packages=len(packages),
        files=sum(facts.files for facts in packages),
        faults=sum(len(facts.faults) for facts in packages),
        size=sum(facts.size for facts in packages),
        lines=sum(facts.lines for facts in packages),
        functions=sum(facts.functions for facts in packages),
        classes=sum(facts.classes for facts in packages),
        complexity=sum(facts.complexity for facts in packages),
    )


def most_imported(packages: Sequence[PackageFacts], most: int) -> list[tuple[str, int]]:
    """The modules that most files import."""
    counted: Counter[str] = Counter()
    for facts in packages:
        counted.update(facts.imports)
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:most]


def import_graph(packages: Sequence[PackageFacts], most: int = 5) -> ImportGraph:
    """The facts of the graph whose nodes are the packages."""
    home = {module: facts.package for facts in packages for module in facts.modules}
    needs: dict[str, set[str]] = {facts.package: set() for facts in packages}
    outside: set[str] = set()
    for facts in packages:
        for name in facts.imports:
            target = home.get(name)
            if target is None:
                outside.add(name.partition(".")[0])
            elif target != facts.package:
                needs[facts.package].add(target)
    needed = Counter(target for targets in needs.values() for target in targets)
    needy = Counter({package: len(targets) for package, targets in needs.items() if targets})
    return ImportGraph(
        edges=sum(len(targets) for targets in needs.values()),
        outside=len(outside - {module.partition(".")[0] for module in home}),
        most_needed=_first(needed, most),
        neediest=_first(needy, most),
        circles=circles(needs),
    )


def circles(needs: Mapping[str, set[str]]) -> tuple[tuple[str, ...], ...]:
    """The sets of nodes that all reach each other, the largest first."""
    reach = {node: _reached(node, needs) for node in needs}
    groups: set[tuple[str, ...]] = set()
    for node in needs:
        if node in reach[node]:
            groups.add(tuple(sorted(other for other in reach[node] if node in reach[other])))
    return tuple(sorted(groups, key=lambda group: (-len(group), group)))


def _reached(start: str, needs: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    stack = [start]
    while stack:
        for target in needs[stack.pop()] - seen:
            seen.add(target)
            stack.append(target)
    return seen


def _first(counted: Mapping[str, int], most: int) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:most])
