"""The optional parts of this distribution, and which of their packages are not installed here."""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version

DISTRIBUTION = "perdure"
NOT_PARTS = frozenset({"all", "dev"})
_REQUIRED = re.compile(r"(?P<package>[\w.-]+).*\bextra == '(?P<extra>\w+)'")


def missing_of_extras() -> Mapping[str, tuple[str, ...]]:
    """The missing packages of each extra, as the distribution itself declares them; empty where nothing says what they are."""
    try:
        required = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # the source without an installation
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in required:
        match = _REQUIRED.match(line)
        if match and match["extra"] not in NOT_PARTS:
            missing = () if _is_installed(match["package"]) else (match["package"],)
            found[match["extra"]] = found.get(match["extra"], ()) + missing
    return found


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
