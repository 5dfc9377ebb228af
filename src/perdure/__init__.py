"""Perdure: background jobs that are never lost."""

from perdure.domain.context import Context
from perdure.domain.errors import ClaimLost, DuplicateJob, JobFailed, PerdureError, ResultTimeout
from perdure.domain.job import Dependency, JobState, OnParentFailure
from perdure.domain.kind import job
from perdure.domain.retry import Backoff, Cancel, Delays, Fixed, GiveUp, RetryAfter, Snooze
from perdure.runtime.app import Perdure
from perdure.runtime.handles import Handle

__all__ = [
    "Backoff",
    "Cancel",
    "ClaimLost",
    "Context",
    "Delays",
    "Dependency",
    "DuplicateJob",
    "Fixed",
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
    "job",
]
