"""The doctor against real servers."""

import sys
from pathlib import Path

import pytest

from perdure.runtime.embedded import EmbeddedServers, ServerOptions
from perdure.surfaces.cli.exits import Exit
from tests.support.command import Command


def verdicts(perdure: Command, *words: str) -> dict[str, str]:
    return {item["check"]: item["verdict"] for item in perdure("doctor", "--json", *words).json["items"]}


def test_the_doctor_looks_at_everything(perdure: Command, redis_url: str) -> None:
    found = verdicts(perdure, "--redis-url", redis_url)
    assert found.keys() >= {
        *(
            "settings",
            "postgresql",
            "postgresql version",
            "durability",
            "oldest transaction",
            "clock",
            "commit",
        ),
        *("notifications", "connections", "schema", "partitions", "dead rows", "workers", "redis"),
        *("redis version", "redis policy", "embedded postgresql", "embedded redis", "disk", "extras"),
    }
    assert (
        found["postgresql version"]
        == found["notifications"]
        == found["schema"]
        == found["partitions"]
        == "ok"
    )
    assert found["durability"] == "bad"  # the servers of the tests do not flush
    assert found["workers"] == "warn"


def test_what_is_away_is_a_line(perdure: Command) -> None:
    found = verdicts(perdure, "--redis-url", "redis://:Zz9secret@127.0.0.1:1/0")
    assert (found["redis"], found["postgresql"]) == ("bad", "ok")
    found = verdicts(perdure, "--database-url", "postgresql://127.0.0.1:1/x")
    assert (found["postgresql"], found["disk"]) == ("bad", "ok")
    assert "postgresql version" not in found


def test_without_the_client_of_redis_it_is_said_what_to_install(
    perdure: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("redis", "perdure.stores.redis."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    url = "redis://127.0.0.1:1/0"
    ended = perdure("job", "enqueue", "app.work", "--app", "", "--redis-url", url)
    assert (ended.code, "pip install 'perdure[redis]'" in ended.err) == (Exit.FAILED, True), ended.err
    looked = perdure("doctor", "--json", "--redis-url", url).json["items"]
    (redis,) = (item for item in looked if item["check"] == "redis")
    assert (redis["verdict"], redis["next_step"]) == ("bad", "pip install 'perdure[redis]'")


def test_a_missing_schema_is_a_line(perdure: Command) -> None:
    ended = perdure("doctor", "--schema", "other", "--json")
    assert ended.code == Exit.CRITICAL
    (schema,) = (item for item in ended.json["items"] if item["check"] == "schema")
    assert (schema["verdict"], schema["next_step"]) == ("bad", "run `perdure db migrate`")


def test_cautions_of_the_settings_are_lines(perdure: Command) -> None:
    slow = Command(perdure.folder, {**perdure.variables, "PERDURE_PRESET": "specification"})
    items = slow("doctor", "--json").json["items"]
    assert [item["verdict"] for item in items if item["check"] == "settings"] == ["ok", "warn"]
    assert "warning: " in slow("config", "show").err


@pytest.mark.servers
def test_commands_find_the_embedded_server(
    bare: Command, scratch: Path, server_options: ServerOptions
) -> None:
    with EmbeddedServers(scratch / "data", redis=False, options=server_options):
        here = Command(bare.folder, {**bare.variables, "PERDURE_DATA_DIR": str(scratch / "data")})
        assert here("db", "migrate").code == Exit.DONE
        assert here("job", "list").code == Exit.DONE
