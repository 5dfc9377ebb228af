"""Extras that are not installed: named with the command that installs them."""

from collections.abc import Iterator
from contextlib import contextmanager

from perdure.domain.errors import InvalidSettings

MODULES = {
    "web": frozenset({"litestar", "uvicorn", "jinja2", "markupsafe", "prometheus_client"}),
    "top": frozenset({"textual"}),
}
"""What each extra brings."""


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Raise InvalidSettings when what is imported inside belongs to an extra that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in MODULES[extra]:
            raise
        raise InvalidSettings(
            "extra",
            f"the extra {extra!r} is not installed ({error.name} is missing)",
            next_step=f"pip install 'perdure[{extra}]'",
        ) from error
