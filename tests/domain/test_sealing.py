"""What is sealed is opened by its key for its job alone, and an error says what is wrong without a secret."""

import base64
import json
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.errors import InvalidArguments, InvalidSettings
from perdure.domain.redaction import Redaction
from perdure.domain.sealing import Keyring, is_sealed

JOB = UUID(int=7)
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
RING = Keyring({"old": OLD})


def written(name: str, key: bytes) -> str:
    return f"{name}:{base64.b64encode(key).decode()}"


@given(st.text())
def test_what_is_sealed_is_opened_and_shows_nothing(text: str) -> None:
    sealed = RING.seal(text, JOB, "arguments")
    assert is_sealed(sealed)
    assert RING.opened(sealed, JOB, "arguments") == text
    assert sealed != RING.seal(text, JOB, "arguments")
    assert len(text) < 4 or text not in sealed


@given(st.text())
def test_the_form_in_which_postgresql_keeps_it_is_opened_too(text: str) -> None:
    kept = json.dumps(json.loads(RING.seal(text, JOB, "result")))
    assert RING.opened(kept, JOB, "result") == text


@given(st.data())
def test_whatever_is_changed_is_noticed(data: st.DataObject) -> None:
    sealed = json.loads(RING.seal('{"a":1}', JOB, "arguments"))
    raw = bytearray(base64.b64decode(sealed["$sealed"]["data"]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    sealed["$sealed"]["data"] = base64.b64encode(raw).decode()
    with pytest.raises(InvalidArguments, match="changed after the key 'old'"):
        RING.opened(json.dumps(sealed, separators=(",", ":")), JOB, "arguments")


@pytest.mark.parametrize(
    ("job_id", "what"), [(uuid4, "arguments"), (lambda: JOB, "result")], ids=["job", "part"]
)
def test_it_opens_for_no_other_job_and_no_other_part(job_id: "type[UUID]", what: str) -> None:
    sealed = RING.seal("{}", JOB, "arguments")
    with pytest.raises(InvalidArguments, match="another job"):
        RING.opened(sealed, job_id(), what)


@pytest.mark.parametrize(
    "text",
    ['{"$sealed":1}', '{"$sealed":{"key":"old"}}', '{"$sealed":{"key":"old","data":"x"}}', '{"$sealed":'],
)
def test_what_only_looks_sealed_is_refused(text: str) -> None:
    with pytest.raises(InvalidArguments, match="marked as sealed"):
        RING.opened(text, JOB, "arguments")


def test_a_new_key_comes_first_and_the_old_one_still_opens() -> None:
    before = RING.seal("{}", JOB, "arguments")
    both = Keyring.parse(f"{written('new', NEW)}, {written('old', OLD)}")
    assert both.opened(before, JOB, "arguments") == "{}"
    after = both.seal("{}", JOB, "arguments")
    assert Keyring({"new": NEW}).opened(after, JOB, "arguments") == "{}"
    with pytest.raises(InvalidArguments, match="the key 'new' that sealed it is not here"):
        RING.opened(after, JOB, "arguments")


@pytest.mark.parametrize(
    "text",
    [
        "old",
        "old:",
        f":{'A' * 43}=",
        "old:c2hvcnQ=",
        f"old:{'A' * 43}!",
        f"{written('a', OLD)},{written('a', NEW)}",
    ],
    ids=["no key", "empty key", "no id", "short", "no base64", "one id twice"],
)
def test_a_keyring_that_is_none_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(InvalidSettings, match="encryption_keys") as refused:
        Keyring.parse(text)
    assert all(
        part.partition(":")[2] not in str(refused.value) for part in text.split(",") if part.partition(":")[2]
    )
    assert "openssl rand" in refused.value.next_step


def test_keys_are_not_shown_and_without_one_nothing_is_sealed() -> None:
    assert repr(RING) == "<keys old>"
    assert not Keyring.parse("")
    with pytest.raises(InvalidSettings, match="jobs of this kind are encrypted"):
        Keyring.parse(" ").seal("{}", JOB, "arguments")


def test_no_face_shows_what_is_sealed() -> None:
    import msgspec

    shown = Redaction().of_json(msgspec.Raw(RING.seal('{"a":1}', JOB, "arguments").encode()))
    assert shown is not None
    assert json.loads(bytes(shown)) == {"$sealed": "[encrypted]"}
