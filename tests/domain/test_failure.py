import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.errors import InvalidArguments
from perdure.domain.failure import (
    MESSAGE_BYTES_MAX,
    TRACEBACK_BYTES_MAX,
    Allowance,
    ending_of_error,
    ending_of_value,
    fingerprint,
    normalised,
    report_of,
)
from perdure.domain.payload import encode_plain
from perdure.domain.retry import Backoff, Cancel, Fixed, GiveUp, RetryAfter, RetryPolicy, Snooze, Steer
from perdure.domain.settlement import Cancelled, Completed, ErrorReport, Failed, Snoozed

TEN_SECONDS = Fixed("10s")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def allowance(policy: RetryPolicy = TEN_SECONDS, *, age: timedelta = timedelta(0)) -> Allowance:
    return Allowance(policy=policy, failures=0, draw=0.5, enqueued_at=NOW - age, now=NOW)


class Policy:
    """What a user may write for a policy; each kind of it fails in its own way."""

    horizon: timedelta | None = None

    def delay(self, failures: int, draw: float) -> timedelta:
        return timedelta(seconds=1)


def caught(raising: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as raised:  # noqa: PT011
        raising()
    return raised.value


def charge(message: str) -> None:
    raise ValueError(message)


def refund(message: str) -> None:
    raise ValueError(message)


def test_a_returned_value_completes_with_its_encoded_result() -> None:
    assert ending_of_value({"a": 1}, allowance(), json.dumps) == Completed(result='{"a": 1}')


def test_a_result_that_cannot_be_stored_is_not_computed_again() -> None:
    def refuse(value: object) -> str:
        raise InvalidArguments("result", "no", next_step="return less")

    ending = ending_of_value(1, allowance(), refuse, kind="app.make")
    assert isinstance(ending, Failed)
    assert ending.give_up


def test_a_result_that_cannot_be_stored_is_told_in_one_sentence_and_without_a_traceback() -> None:
    ending = ending_of_value(
        {"a": object()}, allowance(), lambda value: encode_plain(value, "result"), kind="app.make"
    )
    assert isinstance(ending, Failed)
    assert ending.error.type == "perdure.UnstorableResult"
    assert ending.error.message.startswith(
        "app.make returned a result that cannot be stored: an object of type object cannot be stored as JSON; return text, "
    )
    assert ending.error.traceback == ""
    assert "object" not in ending.cause


def test_giving_up_bears_its_public_name() -> None:
    ending = ending_of_error(caught(gives_up), allowance())
    assert isinstance(ending, Failed)
    assert (ending.error.type, ending.error.message) == ("perdure.GiveUp", "no hope")


def gives_up() -> None:
    raise GiveUp("no hope")


def test_an_error_waits_as_the_policy_says() -> None:
    ending = ending_of_error(caught(lambda: charge("no")), allowance())
    assert isinstance(ending, Failed)
    assert ending.retry_in == timedelta(seconds=10)
    assert not ending.give_up
    assert ending.error.type == "ValueError"


def test_a_time_out_is_told_apart() -> None:
    ending = ending_of_error(TimeoutError(), allowance(), timed_out=True)
    assert isinstance(ending, Failed)
    assert ending.timed_out


def test_a_retry_beyond_the_horizon_is_given_up_with_the_reason() -> None:
    ending = ending_of_error(ValueError(), allowance(Fixed("10s", horizon="1m"), age=timedelta(seconds=51)))
    assert isinstance(ending, Failed)
    assert ending.give_up
    assert "1m" in ending.cause


class Raises(Policy):
    def delay(self, failures: int, draw: float) -> timedelta:
        raise KeyError("no such customer")


class GivesSeconds(Policy):
    def delay(self, failures: int, draw: float) -> timedelta:
        return 5  # type: ignore[return-value]


class GoesBack(Policy):
    def delay(self, failures: int, draw: float) -> timedelta:
        return timedelta(seconds=-5)


class HasNoHorizon(Policy):
    horizon = "1h"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        (Raises(), "KeyError: 'no such customer'"),
        (GivesSeconds(), "delay gave 5, which is no wait"),
        (GoesBack(), "which is no wait"),
        (HasNoHorizon(), "TypeError"),
    ],
)
def test_a_retry_policy_that_fails_itself_is_named_and_the_default_one_decides(
    policy: RetryPolicy, fault: str
) -> None:
    """It is the user's code, and runs when the handler has ended already: the attempt must not be lost by it."""
    ending = ending_of_error(ValueError("no"), allowance(policy), timed_out=True)
    assert isinstance(ending, Failed)
    assert (ending.error.type, ending.timed_out, ending.give_up) == ("ValueError", True, False)
    assert ending.retry_in == Backoff().delay(0, 0.5)
    assert ending.cause.startswith("its retry policy failed, so the default one decided: ")
    assert fault in ending.cause


def test_the_handlers_own_wait_stands_whatever_becomes_of_its_policy() -> None:
    ending = ending_of_error(RetryAfter("3s", "busy"), allowance(HasNoHorizon()))  # type: ignore[arg-type]
    assert isinstance(ending, Failed)
    assert ending.retry_in == timedelta(seconds=3)
    assert ending.cause.startswith("busy; its retry policy failed")


@pytest.mark.parametrize(
    "end", [ending_of_error, lambda steer, left: ending_of_value(steer, left, json.dumps)]
)
def test_a_steer_means_the_same_raised_or_returned(end: Callable[[Steer, Allowance], object]) -> None:
    assert end(Snooze("1m"), allowance()) == Snoozed(delay=timedelta(minutes=1))
    assert end(Cancel("gone"), allowance()) == Cancelled(reason="gone")
    given_up = end(GiveUp("no hope"), allowance())
    assert isinstance(given_up, Failed)
    assert (given_up.give_up, given_up.cause) == (True, "no hope")
    later = end(RetryAfter("3s", "busy"), allowance())
    assert isinstance(later, Failed)
    assert (later.give_up, later.cause, later.retry_in) == (False, "busy", timedelta(seconds=3))


def test_a_steer_reports_the_error_behind_it() -> None:
    def handler() -> None:
        try:
            charge("declined")
        except ValueError as error:
            raise RetryAfter("1s") from error

    ending = ending_of_error(caught(handler), allowance())
    assert isinstance(ending, Failed)
    assert (ending.error.type, ending.error.message) == ("ValueError", "declined")


@given(st.text(alphabet=st.characters() | st.sampled_from("\x00\ud800\udfff€"), max_size=200))
def test_a_report_holds_only_what_postgresql_keeps(message: str) -> None:
    report = report_of(caught(lambda: charge(message)))
    for text in (report.type, report.message, report.traceback):
        text.encode()
        assert "\x00" not in text


@given(st.sampled_from("a€😀"), st.integers(0, 100_000))
def test_a_report_is_bounded_in_bytes(letter: str, length: int) -> None:
    report = report_of(caught(lambda: charge(letter * length)))
    assert len(report.message.encode()) <= MESSAGE_BYTES_MAX
    assert len(report.traceback.encode()) <= TRACEBACK_BYTES_MAX
    assert report.traceback.startswith("Traceback")


def test_a_traceback_shows_no_local_variables() -> None:
    def login() -> None:
        secret = "hsifdrows"[::-1]
        raise PermissionError(len(secret))

    assert "swordfish" not in report_of(caught(login)).traceback


def test_an_error_whose_str_fails_is_reported_all_the_same() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    report = report_of(caught(lambda: (_ for _ in ()).throw(BrokenError())))
    assert report.type.endswith("BrokenError")
    assert report.fingerprint


wordings: list[Callable[[int, UUID, str], str]] = [
    lambda number, _uuid, _text: f"user {number} not found",
    lambda number, _uuid, _text: f"took {number / 7} s, attempt {number}",
    lambda _number, uuid, _text: f"job {uuid} is gone",
    lambda _number, uuid, _text: f"object {uuid.hex} at 0x{uuid.int:x}",
    lambda _number, _uuid, text: f"no such key: {text!r}",
    lambda number, _uuid, text: f"cannot parse {text!r}: expected {text!r} at {number}:{number}",
    lambda number, uuid, _text: f"[Errno 2] No such file or directory: /data/{uuid}/part-{number}.csv",
    lambda number, uuid, _text: f"{number}{uuid}",
]
causes = st.tuples(st.integers(0, 10**30), st.uuids(), st.text(max_size=30))


@pytest.mark.parametrize("wording", wordings)
@given(first=causes, second=causes)
def test_a_fingerprint_is_equal_whatever_ids_the_message_carries(
    wording: Callable[[int, UUID, str], str], first: tuple[int, UUID, str], second: tuple[int, UUID, str]
) -> None:
    one, other = (caught(partial(charge, wording(*ids))) for ids in (first, second))
    assert fingerprint(one) == fingerprint(other)


def test_a_fingerprint_tells_type_place_and_wording_apart() -> None:
    errors = [
        caught(lambda: charge("declined")),
        caught(lambda: charge("expired")),
        caught(lambda: refund("declined")),
        caught(lambda: int("x")),
    ]
    prints = {fingerprint(error) for error in errors}
    assert len(prints) == len(errors)
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in prints)


def test_a_fingerprint_does_not_depend_on_the_depth_of_a_recursion() -> None:
    def descend(depth: int) -> None:
        if depth == 0:
            charge("bottom")
        descend(depth - 1)

    assert fingerprint(caught(lambda: descend(3))) == fingerprint(caught(lambda: descend(30)))


def test_frames_of_libraries_do_not_count() -> None:
    def read(text: str) -> None:
        json.loads(text)

    assert fingerprint(caught(lambda: read("[1,"))) == fingerprint(caught(lambda: read('[[2, {"a": 1}, 3,')))


def test_normalising_keeps_the_words() -> None:
    assert normalised("user 'ann' has 3 files in /home/ann/x") == "user # has # files in #"
    assert normalised("can't open it, isn't there") == "can't open it, isn't there"


@given(st.sampled_from("'\"`\\/a1 (["), st.integers(0, 20_000))
def test_normalising_is_fast_on_any_message(letter: str, length: int) -> None:
    assert len(normalised(letter * length)) <= MESSAGE_BYTES_MAX


def test_reports_of_the_same_error_are_equal() -> None:
    error = caught(lambda: Path("/no/such/file").read_text())
    assert report_of(error) == report_of(error)
    assert isinstance(report_of(error), ErrorReport)
