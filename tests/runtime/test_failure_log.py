"""What the log of a worker says of failed attempts."""

from datetime import timedelta
from uuid import uuid4

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from perdure.domain.lease import Lease
from perdure.domain.settlement import ErrorReport, Failed
from perdure.runtime.failure_log import ENTRIES_PER_S, FailureLog
from perdure.runtime.sealing import OpenedLease

REPORT = ErrorReport(type="ValueError", message="no such thing\nas this", traceback="Traceback …")


def lease(attempt: int) -> Lease:
    return Lease(uuid4(), uuid4(), 1, 1, attempt, 0, 0, 0, "{}", 3, 3, None, None, 0, 0, kind="app.work")


def test_an_entry_says_which_attempt_failed_why_and_what_comes_next() -> None:
    failures, failed = FailureLog(), Failed(error=REPORT, retry_in=timedelta(seconds=10))
    with capture_logs() as said:
        failures.note(lease(1), failed)
        failures.note(lease(3), failed)
        failures.note(lease(1), Failed(error=REPORT, retry_in=timedelta(0), give_up=True, timed_out=True))
    first, last, given_up = said
    assert (first["event"], first["kind"], first["attempt"]) == ("attempt failed", "app.work", "1 of 3")
    assert (first["error"], first["exception"]) == ("ValueError: no such thing", "Traceback …")
    assert [one["next"] for one in said] == ["again in 10s", "dead letter queue", "dead letter queue"]
    assert (last["attempt"], given_up["event"]) == ("3 of 3", "attempt timed out")


def test_of_an_attempt_that_was_given_up_on_purpose_one_line_is_told() -> None:
    report = ErrorReport(type="perdure.GiveUp", message="no hope", traceback="Traceback …")
    with capture_logs() as said:
        FailureLog().note(lease(1), Failed(error=report, retry_in=timedelta(0), give_up=True))
    assert said[0]["error"] == "perdure.GiveUp: no hope"
    assert "exception" not in said[0]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.711157, "711ms"), (2.34567, "2.35s"), (59.96, "1m"), (83.6, "1m24s"), (7_261.2, "2h1m1s")],
)
def test_the_pause_before_the_next_attempt_is_told_as_people_read_it(seconds: float, told: str) -> None:
    with capture_logs() as said:
        FailureLog().note(lease(1), Failed(error=REPORT, retry_in=timedelta(seconds=seconds)))
    assert said[0]["next"] == f"again in {told}"


def test_of_an_encrypted_kind_no_text_is_told() -> None:
    sealed = OpenedLease(**{**structs.asdict(lease(1)), "args": '{"secret": 1}'})
    with capture_logs() as said:
        FailureLog().note(sealed, Failed(error=REPORT, retry_in=timedelta(0)))
    assert said[0]["error"] == "ValueError"
    assert "no such thing" not in str(said)
    assert "exception" not in said[0]


def test_passwords_are_told_neither_by_the_line_nor_by_the_traceback() -> None:
    text = "no answer from postgresql://me:hunter2@host/db, password='hunter2'"
    report = ErrorReport(type="OSError", message=text, traceback=f"Traceback …\nOSError: {text}")
    with capture_logs() as said:
        FailureLog().note(lease(1), Failed(error=report, retry_in=timedelta(0)))
    assert (
        said[0]["error"] == "OSError: no answer from postgresql://me:[redacted]@host/db, password=[redacted]"
    )
    assert "hunter2" not in str(said)


def test_a_flood_of_failures_is_counted_and_not_told_one_by_one() -> None:
    failures, failed = FailureLog(), Failed(error=REPORT, retry_in=timedelta(0))
    with capture_logs() as said:
        while sum(1 + one.get("unlogged", 0) for one in said) < 10 * ENTRIES_PER_S:
            failures.note(lease(1), failed)
    assert any(one.get("unlogged") for one in said)
    assert len(said) < 10 * ENTRIES_PER_S
