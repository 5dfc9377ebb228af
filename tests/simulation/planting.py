"""Bugs planted in the code of production: one line of a function is another while a test looks."""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """In the function `within` of `owner` the text `old`, which is there once, becomes `new`."""

    name: str
    owner: Any
    within: str
    old: str
    new: str

    def __str__(self) -> str:
        return self.name

    def planted_function(self) -> Any:
        """The function with the bug in it, compiled in the namespace of its module."""
        function = getattr(self.owner, self.within)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, f"{self.within} has changed: {self.old!r} is not in it once"
        namespace = vars(sys.modules[function.__module__])
        found: dict[str, Any] = {}
        exec(compile(source.replace(self.old, self.new), f"<{self.name}>", "exec"), namespace, found)  # noqa: S102 - our own source
        return found[self.within]


@contextmanager
def planted(bug: Bug | None) -> Iterator[None]:
    """Within, the bug is there."""
    if bug is None:
        yield
        return
    with patch.object(bug.owner, bug.within, bug.planted_function()):
        yield
