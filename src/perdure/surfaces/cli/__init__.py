"""The command line: parse, call, render. Importing this is quick; each command imports what it needs."""

import sys
from collections.abc import Sequence

from perdure.version import __version__

VERSION_FLAGS = (["--version"], ["-V"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if tokens in VERSION_FLAGS:
        sys.stdout.write(f"perdure {__version__}\n")
        return 0
    from perdure.surfaces.cli.program import run  # the whole tree, for nothing but a version

    return run(tokens)
