"""What no face may show: values under telling names in the user's JSON, and passwords inside addresses."""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec

from perdure.domain.sealing import MARK
from perdure.domain.settlement import ErrorReport
from perdure.domain.views import EMPTY, AttemptView, DeadLetterView, JobDetail, JobView

MASK = "[redacted]"
SEALED, ENCRYPTED = "$sealed", "[encrypted]"
DEFAULT_NAMES = (
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "private_key",
    "cookie",
)
"""Parts of names, whatever their case, whose values are hidden unless the settings say otherwise."""

_ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^:/?#@\s]*):(?P<password>[^@\s]*)@", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?P<name>\b\w*(?:password|passwd|secret|token|api_key)\w*\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s&'\",;)]+)",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"[-_ ]")


def without_passwords(text: str) -> str:
    """An error's message or traceback without the passwords that stand in it, in an address or as `password=…`."""
    if "://" in text:
        text = _ADDRESS.sub(rf"\g<scheme>\g<user>:{MASK}@", text)
    return _ASSIGNED.sub(rf"\g<name>{MASK}", text)


class Redaction:
    """Hides the values whose name contains one of `names`; hyphens, underscores and case do not count.

    What is hidden is replaced as a whole, at any depth; all other JSON keeps its exact text.
    """

    def __init__(self, names: Iterable[str] = DEFAULT_NAMES) -> None:
        folded = [_folded(name) for name in names if name.strip()]
        self._names = re.compile("|".join(map(re.escape, folded))) if folded else None

    def of_json(self, raw: msgspec.Raw | None) -> msgspec.Raw | None:
        """JSON with the values under telling names replaced; an address in a text loses its password."""
        if raw is None:
            return None
        text = bytes(raw).decode()
        if not self._may_tell(text):
            return raw
        # Numbers are carried as their text, so that none is rounded.
        value = json.loads(text, parse_int=_as_written, parse_float=_as_written)
        return msgspec.Raw(msgspec.json.encode(self._cleaned(value)))

    def of_text(self, text: str) -> str:
        """An error's message or traceback without the passwords that stand in it."""
        return without_passwords(text)

    def of_job(self, job: JobView) -> JobView:
        """A job as a list may show it."""
        return replace(job, args=self.of_json(job.args) or EMPTY, error=self.of_text(job.error))

    def of_error(self, error: ErrorReport | None) -> ErrorReport | None:
        """An error as it may be shown."""
        if error is None:
            return None
        return replace(error, message=self.of_text(error.message), traceback=self.of_text(error.traceback))

    def of_letter(self, letter: DeadLetterView) -> DeadLetterView:
        """A dead letter as it may be shown."""
        return replace(
            letter,
            args=self.of_json(letter.args) or EMPTY,
            error=self.of_error(letter.error),
            cause=self.of_text(letter.cause),
        )

    def of_attempt(self, attempt: AttemptView) -> AttemptView:
        """An attempt as it may be shown."""
        return replace(
            attempt,
            error=self.of_error(attempt.error),
            result=self.of_json(attempt.result),
            cause=self.of_text(attempt.cause),
        )

    def of_detail(self, detail: JobDetail) -> JobDetail:
        """One job in full as it may be shown."""
        letter = detail.dead_letter
        return replace(
            detail,
            job=self.of_job(detail.job),
            metadata=self.of_json(detail.metadata),
            result=self.of_json(detail.result),
            error=self.of_error(detail.error),
            attempts=tuple(map(self.of_attempt, detail.attempts)),
            dead_letter=None if letter is None else self.of_letter(letter),
        )

    def _may_tell(self, text: str) -> bool:
        return (
            "://" in text
            or (self._names is not None and bool(self._names.search(_folded(text))))
            or "\\u" in text
            or text.startswith(MARK)
        )

    def tells(self, name: str) -> bool:
        """Whether the value under this name is hidden."""
        return self._names is not None and bool(self._names.search(_folded(name)))

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, dict):
            if SEALED in value:
                return {SEALED: ENCRYPTED}
            return {key: MASK if self.tells(key) else self._cleaned(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._cleaned(item) for item in value]
        return _ADDRESS.sub(rf"\g<scheme>\g<user>:{MASK}@", value) if isinstance(value, str) else value


def _folded(text: str) -> str:
    return _SEPARATOR.sub("", text).casefold()


def _as_written(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())
