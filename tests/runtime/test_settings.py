"""Settings: the order of their sources, their bounds, and that no secret shows."""

import pickle
import string
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from perdure.domain.errors import InvalidSettings
from perdure.runtime.settings import Settings, load_problems, origins
from perdure.runtime.settings_sources import PREFIX
from perdure.runtime.urls import masked_text, masked_url

FIELDS = ("concurrency", "thread_concurrency", "prefetch_max", "crash_limit", "retention_days")
PASSWORDS = st.text(
    alphabet=string.ascii_letters + string.digits + "-._~!$&'()*+,;=%/?#:@", min_size=1, max_size=20
).map(lambda text: f"Zz9{text}9zZ")
LAYERS = st.dictionaries(st.sampled_from(FIELDS), st.integers(1, 99))


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def write(path: Path, **values: object) -> Path:
    lines = [
        f"{name} = {str(value) if isinstance(value, int) else repr(value)}" for name, value in values.items()
    ]
    path.write_text("\n".join(lines))
    return path


@given(in_file=LAYERS, in_environment=LAYERS, in_flags=LAYERS)
def test_a_later_source_wins_and_is_named(
    tmp_path_factory: pytest.TempPathFactory,
    in_file: dict[str, int],
    in_environment: dict[str, int],
    in_flags: dict[str, int],
) -> None:
    path = write(tmp_path_factory.mktemp("settings") / "perdure.toml", **in_file)
    with patch.dict(
        "os.environ", {PREFIX + name.upper(): str(value) for name, value in in_environment.items()}
    ):
        settings = Settings.load(in_flags, path)
    for name in FIELDS:
        origin = origins(settings)[name]
        if name in in_flags:
            assert (getattr(settings, name), origin.source) == (in_flags[name], "flag")
        elif name in in_environment:
            source = f"environment {PREFIX}{name.upper()}"
            assert (getattr(settings, name), origin.source) == (in_environment[name], source)
        elif name in in_file:
            assert (getattr(settings, name), origin.source) == (in_file[name], f"file {path}")
        else:
            assert (getattr(settings, name), origin.source) == (
                Settings.model_fields[name].default,
                "default",
            )


@given(password=PASSWORDS)
@example(password="Zz9@/:?#9zZ")
@example(password="Zz9 = '9zZ")
def test_a_password_never_shows(password: str) -> None:
    url = f"postgresql://user:{password}@host/name"
    assert password not in masked_url(url)
    assert password not in masked_text(f"trouble with {url}\nand again {url}")
    assert "host/name" in masked_url(url)
    for shown in traces(url):
        assert password not in shown


def traces(url: str) -> list[str]:
    """All texts that come of settings with this address, be it accepted or refused."""
    try:
        settings = Settings(database_url=SecretStr(url))
    except InvalidSettings as error:
        return [repr(error), error.message, error.next_step]
    return [repr(settings), str(settings), settings.model_dump_json(), repr(origins(settings))]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/name?user=u&password=Zz9secret",
        "host=h user=u password=Zz9secret dbname=d",
        "host=h password='Zz9 secret' dbname=d",
        "redis://:Zz9secret@host/0",
        "POSTGRESQL://u:Zz9secret@host/name",
    ],
)
def test_a_password_is_masked_in_every_form_of_address(url: str) -> None:
    assert "Zz9" not in masked_url(url)


@pytest.mark.parametrize("url", ["", "postgresql://host/name", "postgresql:///name?host=/run/postgresql"])
def test_an_address_without_password_is_shown_as_it_is(url: str) -> None:
    assert masked_url(url) == url


@pytest.mark.parametrize(
    ("values", "field", "word"),
    [
        ({"concurrency": 0}, "concurrency", "outside 1 to 10,000"),
        ({"concurrency": "many"}, "concurrency", "is not a whole number"),
        ({"processes": 4}, "max_connections", "processes"),
        ({"dead_after_s": 5}, "dead_after_s", "heartbeat_interval_s"),
        ({"suspect_after_s": 20}, "suspect_after_s", "dead_after_s"),
        ({"database_url": "mysql://host"}, "database_url", "postgresql://"),
        ({"database_url": "postgresql+asyncpg://host/x"}, "database_url", "leave out the driver"),
        ({"database_url": "just words"}, "database_url", "postgresql://"),
        ({"database_url": "postgresql://u:p/w@host/x"}, "database_url", "%2F"),
        ({"database_url": "postgresql://me:p@ss@host/x"}, "database_url", "more than one @ before its host"),
        ({"redis_url": "http://host"}, "redis_url", "redis://"),
        ({"schema": "Robert'); --"}, "schema", "characters"),
        ({"queues": ()}, "queues", "names none"),
        ({"queues": ("",)}, "queues", "name"),
        ({"log_level": "loud"}, "log_level", "debug"),
        ({"preset": "nope"}, "preset", "default"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(values: dict[str, object], field: str, word: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.load(values)
    assert caught.value.field == field
    assert word in caught.value.message


def test_a_refusal_says_the_value_where_it_comes_from_and_what_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(Path("perdure.toml"), log_level="loud")
    for variable, value, why, next_step in (
        ("CONCURRENCY", "many", "'many' is not a whole number", "write a whole number from 1 to 10,000"),
        ("HEARTBEAT_INTERVAL_S", "1h", "'1h' is not a number", "write a number from 0.05 to 300"),
        ("SCHEMA", "no-such;x", "'no-such;x' has characters that it cannot have", "no digit first"),
        ("QUEUES", ",", "names none", "name at least 1, or leave it out"),
        ("SNAPSHOT_ENCRYPTION", "ja", "'ja' is neither true nor false", "it is: "),
        (
            "DATABASE_URL",
            "mysql://u:geheim@x",
            "must begin with postgresql://",
            "write postgresql://USER@HOST",
        ),
    ):
        monkeypatch.setenv(f"PERDURE_{variable}", value)
        with pytest.raises(InvalidSettings) as refused:
            Settings.load({"log_level": "info"})
        monkeypatch.delenv(f"PERDURE_{variable}")
        assert refused.value.why == f"{why} (environment PERDURE_{variable})"
        assert next_step in refused.value.next_step
        assert "geheim" not in str(refused.value)
    with pytest.raises(InvalidSettings) as refused:
        Settings.load()
    assert (
        refused.value.why
        == f"'loud' is none of 'debug', 'info', 'warning' or 'error' (file {path.absolute()})"
    )
    with pytest.raises(InvalidSettings) as refused:
        Settings.load({"processes": 0, "log_level": "info"})
    assert refused.value.why == "0 is outside 1 to 128 (option processes)"
    assert [each.why for each in load_problems({"processes": 0, "log_level": "info"})] == [refused.value.why]


def test_the_refusal_of_connections_says_what_would_fit() -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings(processes=9)
    assert "max_connections to 36 or more" in caught.value.next_step
    assert "processes to 3" in caught.value.next_step


def test_an_unknown_key_in_a_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.load({}, write(tmp_path / "perdure.toml", concurency=3))
    assert caught.value.field == "concurency"
    assert "did you mean concurrency?" in caught.value.next_step


def test_an_unknown_flag_is_refused_and_one_not_given_is_not_there() -> None:
    with pytest.raises(InvalidSettings):
        Settings.load({"nope": 1})
    assert Settings.load({"concurrency": None}).concurrency == 100


def test_the_nearest_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    (tmp_path / "pyproject.toml").write_text("[tool.perdure]\nconcurrency = 7\n")
    assert Settings.load().concurrency == 7
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert Settings.load().concurrency == 7
    write(tmp_path / "a" / "perdure.toml", concurrency=8)
    assert Settings.load().concurrency == 8


def test_a_folder_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "perdure.toml", data_dir="servers")
    assert Settings.load({}, path).data_dir == tmp_path / "servers"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.toml", None),
        ("perdure.toml", b"= ="),
        ("perdure.toml", b"\xff\xfe"),
        ("pyproject.toml", b"[project]\nname = 'x'\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidSettings, match=name):
        Settings.load({}, tmp_path / name)


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_QUEUES", "mail, media,mail")
    monkeypatch.setenv("PERDURE_LABELS", "")
    settings = Settings.load()
    assert settings.queues == ("mail", "media")
    assert settings.labels == ()


def test_the_preset_of_the_specification_warns_and_may_be_changed() -> None:
    settings = Settings.load({"preset": "specification"})
    assert (settings.heartbeat_interval_s, settings.dead_after_s) == (30, 60)
    assert "heartbeats long" in settings.cautions[0]
    assert origins(settings)["dead_after_s"].source == "preset specification"
    assert Settings.load({"preset": "specification", "dead_after_s": 90}).cautions == ()
    with pytest.raises(InvalidSettings):
        Settings.load({"preset": "specification", "dead_after_s": 50})


def test_settings_built_directly_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_CONCURRENCY", "3")
    assert Settings().concurrency == 100
    assert origins(Settings(concurrency=4))["concurrency"].source == "code"


def test_a_misspelt_variable_is_a_caution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_CONCURENCY", "3")
    assert any("PERDURE_CONCURRENCY" in caution for caution in Settings.load().cautions)


def test_settings_are_frozen_and_travel_to_other_processes() -> None:
    settings = Settings(concurrency=3)
    with pytest.raises(ValidationError):
        settings.concurrency = 4
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301


def test_all_problems_are_told_at_once() -> None:
    problems = load_problems({"concurrency": 0, "processes": 9, "queues": "", "database_url": "x://y"})
    assert {problem.field for problem in problems} == {
        "concurrency",
        "max_connections",
        "queues",
        "database_url",
    }
    assert load_problems({"concurrency": 3}) == []
    assert [problem.field for problem in load_problems({"nope": 3})] == ["nope"]


def test_every_setting_is_described_and_bounded() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        if field.annotation in {int, float}:
            assert len(field.metadata) >= 2, name


def test_a_default_is_valid_by_itself() -> None:

    assert Settings().model_dump().keys() == Settings.model_fields.keys()
