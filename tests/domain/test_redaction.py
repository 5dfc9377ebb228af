"""What is hidden, and that everything else stays exactly as it was."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.redaction import MASK, Redaction

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abcxyz", min_size=1, max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


def redacted(text: str, *names: str) -> str:
    raw = (Redaction(names) if names else Redaction()).of_json(msgspec.Raw(text.encode()))
    assert raw is not None
    return bytes(raw).decode()


@pytest.mark.parametrize(
    "name", ["password", "userPassword", "API-KEY", "api_key", "apiKey", "Access Token", "SECRET"]
)
def test_a_telling_name_hides_its_value_however_it_is_written(name: str) -> None:
    assert json.loads(redacted(json.dumps({"a": [{name: {"deep": "hunter2"}}]}))) == {"a": [{name: MASK}]}


@given(VALUES)
def test_what_has_no_telling_name_stays_what_it_was(value: object) -> None:
    text = json.dumps({"field": value})
    assert json.loads(redacted(text, "zzzzzz")) == json.loads(text)


def test_numbers_beside_a_secret_keep_their_exact_text() -> None:
    text = '{"n":12345678901234567890123456789,"x":1.10,"tiny":1e-7,"token":"t"}'
    assert redacted(text) == text.replace('"t"', f'"{MASK}"')


def test_an_escaped_name_does_not_slip_through() -> None:
    assert "hunter2" not in redacted('{"p\\u0061ssword": "hunter2"}')


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("could not connect to postgresql://ada:hunter2@db/shop", "hunter2"),
        ("login(password='hunter two') failed", "hunter two"),
        ("smtp_password: hunter2, host: x", "hunter2"),
        ("GET https://u:p%40ss@h/ gave 500", "p%40ss"),
    ],
)
def test_a_secret_in_an_error_is_hidden(text: str, secret: str) -> None:
    shown = Redaction().of_text(text)
    assert secret not in shown
    assert MASK in shown


def test_no_names_hide_nothing_but_passwords_of_addresses() -> None:
    assert Redaction(()).of_json(msgspec.Raw(b'{"password": "x"}')) == msgspec.Raw(b'{"password": "x"}')
    assert "pw" not in redacted('{"url": "redis://u:pw@h"}', "other")
