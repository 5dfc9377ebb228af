"""Perdure: background jobs that are never lost."""

from importlib import import_module
from typing import TYPE_CHECKING

from perdure.version import __version__

if TYPE_CHECKING:
    from perdure.domain.context import Context
    from perdure.domain.errors import ClaimLost, DuplicateJob, JobFailed, PerdureError, ResultTimeout
    from perdure.domain.follow_advice import FollowAdvice
    from perdure.domain.job import Dependency, JobState, OnParentFailure
    from perdure.domain.kind import job
    from perdure.domain.retry import Backoff, Cancel, Delays, Fixed, GiveUp, RetryAfter, Snooze
    from perdure.domain.views import ActOutcome
    from perdure.runtime.app import Perdure
    from perdure.runtime.handles import Handle

__all__ = [
    "ActOutcome",
    "Backoff",
    "Cancel",
    "ClaimLost",
    "Context",
    "Delays",
    "Dependency",
    "DuplicateJob",
    "Fixed",
    "FollowAdvice",
    "GiveUp",
    "Handle",
    "JobFailed",
    "JobState",
    "OnParentFailure",
    "Perdure",
    "PerdureError",
    "ResultTimeout",
    "RetryAfter",
    "Snooze",
    "__version__",
    "job",
]

_HOMES = {
    "perdure.domain.context": ("Context",),
    "perdure.domain.errors": ("ClaimLost", "DuplicateJob", "JobFailed", "PerdureError", "ResultTimeout"),
    "perdure.domain.follow_advice": ("FollowAdvice",),
    "perdure.domain.job": ("Dependency", "JobState", "OnParentFailure"),
    "perdure.domain.kind": ("job",),
    "perdure.domain.retry": ("Backoff", "Cancel", "Delays", "Fixed", "GiveUp", "RetryAfter", "Snooze"),
    "perdure.domain.views": ("ActOutcome",),
    "perdure.runtime.app": ("Perdure",),
    "perdure.runtime.handles": ("Handle",),
}

if not TYPE_CHECKING:  # a type checker would take it for the promise that every name exists

    def __getattr__(name: str) -> object:
        """A public name, imported when it is first asked for: a command that needs none of them is quick."""
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(home), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
