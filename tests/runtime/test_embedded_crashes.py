"""The embedded servers when somebody dies: a client, the owner, a server, or all at once."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import redis

from perdure.runtime.embedded import (
    EmbeddedServers,
    ServerOptions,
    wait_until_stopped,
)
from perdure.runtime.embedded.layout import Layout
from tests.support.embedded import SOON_S, asked, client_process, one, owner, postmaster, run, said
from tests.support.servers import wait_for


def test_a_client_in_the_grace_time_keeps_the_servers(made: Path, server_options: ServerOptions) -> None:
    patient = replace(server_options, grace_s=5.0)
    servers = EmbeddedServers(made, redis=False, options=patient)
    began = one(servers.start().database_url, "SELECT pg_postmaster_start_time()")
    servers.stop()
    assert one(servers.start().database_url, "SELECT pg_postmaster_start_time()") == began
    servers.stop()
    owner(made).send_signal(signal.SIGTERM)
    assert wait_until_stopped(made, within_s=4), "SIGTERM ends the owner without the grace time"


def test_killing_the_last_client_ends_the_servers(made: Path, server_options: ServerOptions) -> None:
    with client_process(made, server_options) as client:
        said(client)
        sockets = Layout(made).run_link.resolve()
        client.kill()
        assert wait_until_stopped(made, within_s=SOON_S)
    assert not sockets.exists()
    assert not Layout(made).run_link.is_symlink()


def test_ctrl_c_in_the_clients_terminal_leaves_the_servers_alone(
    made: Path, server_options: ServerOptions
) -> None:
    with client_process(made, server_options) as client:
        said(client)
        before = asked(client)
        os.killpg(client.pid, signal.SIGINT)
        assert asked(client) == before


def test_killing_the_owner_ends_the_servers_and_loses_nothing(
    made: Path, server_options: ServerOptions
) -> None:
    with EmbeddedServers(made, options=server_options) as urls:
        run(urls.database_url, "CREATE TABLE kept AS SELECT 7 AS seven")
        left_behind = Layout(made).run_link.resolve()
        owner(made).kill()
        assert wait_until_stopped(made, within_s=SOON_S)
    with EmbeddedServers(made, options=server_options) as urls:
        assert one(urls.database_url, "SELECT seven FROM kept") == 7
        assert not left_behind.exists()


def test_a_start_right_after_the_owner_was_killed_waits_for_the_old_servers(
    made: Path, server_options: ServerOptions
) -> None:
    servers = EmbeddedServers(made, options=server_options)
    run(servers.start().database_url, "CREATE TABLE kept AS SELECT 7 AS seven")
    owner(made).kill()
    urls = servers.start()
    assert one(urls.database_url, "SELECT seven FROM kept") == 7
    servers.stop()


def test_a_stale_ready_file_of_a_crashed_server_is_not_believed(
    made: Path, server_options: ServerOptions
) -> None:
    with EmbeddedServers(made, redis=False, options=server_options):
        pid_file = Layout(made).postgres / "postmaster.pid"
        stale = pid_file.read_text()
        assert "ready" in stale
        for process in (postmaster(made), owner(made)):
            process.kill()
        assert wait_until_stopped(made, within_s=SOON_S)
    # The worst case: the number in the stale file belongs to a living process, here this one.
    lines = stale.splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with EmbeddedServers(made, redis=False, options=server_options) as urls:
        assert one(urls.database_url, "SELECT 1") == 1


def test_when_postgres_dies_the_owner_ends_and_the_next_start_recovers(
    made: Path, server_options: ServerOptions
) -> None:
    with EmbeddedServers(made, options=server_options):
        postmaster(made).kill()
        assert wait_until_stopped(made, within_s=SOON_S)
        with EmbeddedServers(made, options=server_options) as urls:
            assert one(urls.database_url, "SELECT 1") == 1


def test_when_redis_dies_the_next_client_brings_it_back(made: Path, server_options: ServerOptions) -> None:
    with EmbeddedServers(made, options=server_options) as urls:
        before = one(urls.database_url, "SELECT pg_postmaster_start_time()")
        victims = [child for child in owner(made).children() if "postgres" not in child.name()]
        assert len(victims) == 1
        victims[0].kill()
        assert wait_for(
            lambda: not victims[0].is_running() or victims[0].status() == "zombie", within_s=SOON_S
        )
        with EmbeddedServers(made, options=server_options) as again:
            assert again.redis_url
            with redis.Redis.from_url(again.redis_url) as connection:
                assert connection.ping()
            assert one(again.database_url, "SELECT pg_postmaster_start_time()") == before


def test_a_half_made_cluster_is_made_again(new: Path, server_options: ServerOptions) -> None:
    half = new / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedServers(new, redis=False, options=server_options) as urls:
        assert one(urls.database_url, "SELECT 1") == 1
    assert not half.exists()
