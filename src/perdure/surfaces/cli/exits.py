"""Exit codes and error codes: what a command's end means to a script."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    NOT_ALLOWED = 5
    UNREACHABLE = 6
    TIMED_OUT = 7
    PARTLY = 8
    CONFIG = 9
    DEGRADED = 10
    CRITICAL = 11
    ROLLED_BACK = 12
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS: Mapping[Exit, str] = {
    Exit.DONE: "done",
    Exit.FAILED: "failed: the command, or the job that was waited for",
    Exit.USAGE: "the command line is wrong",
    Exit.NOT_FOUND: "what was asked for does not exist",
    Exit.REFUSED: "refused by the state of things, or in conflict with somebody else's step",
    Exit.NOT_ALLOWED: "not allowed to this user",
    Exit.UNREACHABLE: "a server is away, or its schema is not the one needed",
    Exit.TIMED_OUT: "not done within the time given",
    Exit.PARTLY: "done for some, refused for others; stderr says which",
    Exit.CONFIG: "the settings cannot be used",
    Exit.DEGRADED: "degraded (`status`, `doctor`), or migrations are missing (`db status`)",
    Exit.CRITICAL: "critical (`status`, `doctor`)",
    Exit.ROLLED_BACK: "the database went back in time or was moved, and nobody has adopted it",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
    Exit.PIPE_CLOSED: "the reader of the output went away",
}


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """The stable number of one class of errors, and the exit code that it leads to."""

    number: int
    exit: Exit

    def __str__(self) -> str:
        return f"PERDURE-{self.number}"


# By the names of the classes, so that no class needs to be imported to end quickly.
CODES: Mapping[str, ErrorCode] = {
    "PerdureError": ErrorCode(1000, Exit.FAILED),
    "InvalidInput": ErrorCode(1001, Exit.USAGE),
    "InvalidOption": ErrorCode(1002, Exit.USAGE),
    "InvalidArguments": ErrorCode(1003, Exit.USAGE),
    "PayloadTooLarge": ErrorCode(1004, Exit.USAGE),
    "UnknownKind": ErrorCode(1005, Exit.USAGE),
    "UnknownParent": ErrorCode(1006, Exit.USAGE),
    "DependencyCycle": ErrorCode(1007, Exit.USAGE),
    "DependencyTooDeep": ErrorCode(1008, Exit.USAGE),
    "InvalidFilter": ErrorCode(1009, Exit.USAGE),
    "InvalidSettings": ErrorCode(1010, Exit.CONFIG),
    "CommandLine": ErrorCode(1011, Exit.USAGE),
    "PastUnknown": ErrorCode(1012, Exit.USAGE),
    "BrokenApplication": ErrorCode(1013, Exit.USAGE),
    "NotFound": ErrorCode(2001, Exit.NOT_FOUND),
    "ExtraMissing": ErrorCode(2002, Exit.FAILED),
    "Conflict": ErrorCode(3001, Exit.REFUSED),
    "ClaimLost": ErrorCode(3002, Exit.REFUSED),
    "IllegalTransition": ErrorCode(3003, Exit.REFUSED),
    "DuplicateJob": ErrorCode(3004, Exit.REFUSED),
    "WorkerGone": ErrorCode(3005, Exit.REFUSED),
    "NotEmpty": ErrorCode(3006, Exit.REFUSED),
    "SnapshotUnusable": ErrorCode(3007, Exit.REFUSED),
    "ModelUnusable": ErrorCode(3008, Exit.REFUSED),
    "SnapshotLocked": ErrorCode(3009, Exit.REFUSED),
    "ResultUnavailable": ErrorCode(4001, Exit.FAILED),
    "JobFailed": ErrorCode(4002, Exit.FAILED),
    "ResultTimeout": ErrorCode(4003, Exit.TIMED_OUT),
    "Unavailable": ErrorCode(5001, Exit.UNREACHABLE),
    "DatabaseUnavailable": ErrorCode(5002, Exit.UNREACHABLE),
    "RedisUnavailable": ErrorCode(5003, Exit.UNREACHABLE),
    "SchemaMissing": ErrorCode(5004, Exit.UNREACHABLE),
    "SchemaOutdated": ErrorCode(5005, Exit.UNREACHABLE),
    "SchemaTooNew": ErrorCode(5006, Exit.UNREACHABLE),
    "SnapshotsUnavailable": ErrorCode(5007, Exit.UNREACHABLE),
    "RollbackDetected": ErrorCode(5008, Exit.ROLLED_BACK),
    "MemoryUnavailable": ErrorCode(5009, Exit.UNREACHABLE),
    "NotifierFailed": ErrorCode(5010, Exit.UNREACHABLE),
    "Locked": ErrorCode(5011, Exit.UNREACHABLE),
    "EmbeddedServerError": ErrorCode(5101, Exit.UNREACHABLE),
    "ServerBinariesMissing": ErrorCode(5102, Exit.UNREACHABLE),
    "DataVersionMismatch": ErrorCode(5103, Exit.UNREACHABLE),
    "NotADataFolder": ErrorCode(5104, Exit.UNREACHABLE),
    "DataFolderInUse": ErrorCode(5105, Exit.UNREACHABLE),
    "SocketPathTooLong": ErrorCode(5106, Exit.UNREACHABLE),
    "NoUnprivilegedUser": ErrorCode(5107, Exit.UNREACHABLE),
    "ServerDidNotStart": ErrorCode(5108, Exit.UNREACHABLE),
    "OwnerDidNotAnswer": ErrorCode(5109, Exit.UNREACHABLE),
    "InsufficientPrivilegeError": ErrorCode(6001, Exit.NOT_ALLOWED),
    "PermissionError": ErrorCode(6002, Exit.NOT_ALLOWED),
    "Exception": ErrorCode(9001, Exit.FAILED),
}


def code_of(error: BaseException) -> ErrorCode:
    """The code of the nearest class that has one."""
    return next(CODES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in CODES)
