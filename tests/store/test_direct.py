"""Statements that are said to the server directly: they leave what the driver's would, and fail as the driver's do."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.stores.postgres.connections import connect_as
from perdure.stores.postgres.direct import STORED, Direct, DirectConnection, _Line, fields, own_fields
from perdure.torture.pooler import pooled
from tests.store.test_pooler import socket_of
from tests.support.database import new_id
from tests.support.waiting import eventually

SAME_CONNECTION = [HealthCheck.function_scoped_fixture]
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = st.integers(-(2**63), 2**63 - 1)
KEEP = "INSERT INTO public.kept (number, name) VALUES ($1, $2)"
NOTICE = b"N\0\0\0\x0eSNOTICE\0\0\0"
SETTING = b"S\0\0\0\x0da\0bcdefg\0"
MESSAGE = b"A\0\0\0\x0c\0\0\0\x01a\0b\0"
REFUSAL = b"E\0\0\0\x17SERROR\0C23505\0Mno\0\0"
READY = b"Z\0\0\0\x05I"
TOLD = b"2\0\0\0\x04" + b"D\0\0\0\x0a\0\x01\0\0\0\0" + b"C\0\0\0\x0dSELECT 1\0"


@pytest.fixture
async def other(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE public.kept (number bigint PRIMARY KEY, name text, id uuid)")
    yield connection
    await connection.execute("DROP TABLE public.kept")
    await connection.close()


@pytest.fixture
async def direct(
    database_url: str, other: "asyncpg.Connection[asyncpg.Record]"
) -> AsyncIterator[DirectConnection]:
    connection = await connect_as(DirectConnection, database_url, application_name="tests")
    yield connection
    await connection.close()


async def said(connection: DirectConnection, text: str) -> Direct:
    """A statement ready to be said."""
    return Direct(connection, await connection.prepare(text))


@settings(suppress_health_check=SAME_CONNECTION)
@given(rows=st.lists(st.tuples(NUMBERS, NAMES | st.none()), max_size=5, unique_by=lambda row: row[0]))
async def test_values_arrive_as_the_driver_would_send_them(
    rows: list[tuple[int, str | None]], direct: DirectConnection
) -> None:
    await direct.execute("TRUNCATE public.kept")
    keep = await said(direct, KEEP)
    for row in rows:
        await keep(fields(*row))
    kept = await direct.fetch("SELECT number, name FROM public.kept")
    assert sorted(map(tuple, kept), key=lambda row: row[0]) == sorted(rows, key=lambda row: row[0])


@settings(suppress_health_check=SAME_CONNECTION)
@given(rank=NUMBERS, args=NAMES)
async def test_what_a_job_has_of_its_own_arrives_too(rank: int, args: str, direct: DirectConnection) -> None:
    job_id = new_id()
    keep = await said(direct, "INSERT INTO public.kept (id, number, name) VALUES ($1, $2, $3)")
    await keep(own_fields(job_id, rank, args))
    kept = await direct.fetchrow("DELETE FROM public.kept RETURNING id, number, name")
    assert tuple(kept or ()) == (job_id, rank, args)


async def test_what_the_server_refuses_is_the_error_of_the_driver_and_the_connection_goes_on(
    direct: DirectConnection,
) -> None:
    keep = await said(direct, KEEP)
    await keep(fields(1, "one"))
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await keep(fields(1, "again"))
    with pytest.raises(asyncpg.UniqueViolationError) as by_the_driver:
        await direct.execute(KEEP, 1, "again")
    assert refused.value.as_dict() == by_the_driver.value.as_dict()
    with pytest.raises(asyncpg.NumericValueOutOfRangeError):
        await keep(fields(2**63, "too many"))
    with pytest.raises(asyncpg.CharacterNotInRepertoireError):
        await keep(fields(2, "\0"))
    with pytest.raises(UnicodeEncodeError):
        fields("\ud800")
    await keep(fields(2, "two"))
    assert await direct.fetchval("SELECT count(*) FROM public.kept") == 2


async def test_what_the_server_says_unasked_reaches_the_driver(
    direct: DirectConnection, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """A notice of a trigger comes before the answer; a notification after it, or alone."""
    await other.execute("""
        CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE NOTICE 'kept %', NEW.number;
            PERFORM pg_notify('kept', NEW.number::text);
            RETURN NULL;
        END $$;
        CREATE TRIGGER tell AFTER INSERT ON public.kept FOR EACH ROW EXECUTE FUNCTION public.tell()
    """)
    heard: asyncio.Queue[str] = asyncio.Queue()
    direct.add_log_listener(lambda _, message: heard.put_nowait(str(message)))
    await direct.add_listener("kept", lambda *message: heard.put_nowait(str(message[3])))
    keep = await said(direct, KEEP)
    try:
        await keep(fields(1, "one"))
        async with asyncio.timeout(10):
            assert {await heard.get(), await heard.get()} == {"PostgresLogMessage: kept 1", "1"}
        await other.execute(KEEP, 2, "two")
        async with asyncio.timeout(10):
            assert await heard.get() == "2"
    finally:
        await other.execute("DROP FUNCTION public.tell CASCADE")


async def test_one_thing_at_a_time(direct: DirectConnection) -> None:
    keep = await said(direct, KEEP)
    first = keep(fields(1, "one"))
    with pytest.raises(asyncpg.InterfaceError, match="another statement is under way"):
        keep(fields(2, "two"))
    await first
    assert await direct.fetchval("SELECT count(*) FROM public.kept") == 1


async def test_a_second_statement_runs_right_afterwards_whatever_becomes_of_either(
    direct: DirectConnection, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Each in a transaction of its own; of the second nobody is told, neither who waits for the first nor who asks next."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    await other.add_listener("kept", lambda *message: heard.put_nowait(str(message[3])))
    keep, tell = await said(direct, KEEP), await said(direct, "SELECT pg_notify('kept', $1)")
    divide = await said(direct, "SELECT 1 / $1::integer")
    async with asyncio.timeout(10):
        for _ in range(20):
            await keep.and_then(divide, fields(1, "one"), fields(0))
            assert await direct.fetchval("DELETE FROM public.kept RETURNING number") == 1
            await keep.and_then(tell, fields(1, "one"), fields("kept"))
            with pytest.raises(asyncpg.UniqueViolationError):
                await keep.and_then(tell, fields(1, "again"), fields("refused"))
            await keep.and_then(divide, fields(2, "two"), fields(0))
            await keep(fields(3, "three"))
            assert [await heard.get(), await heard.get()] == ["kept", "refused"]
            assert await direct.fetchval("SELECT count(*) FROM public.kept") == 3
            await other.execute("TRUNCATE public.kept")


async def test_a_connection_closes_though_a_second_statement_is_still_under_way(
    direct: DirectConnection, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    keep, more = await said(direct, KEEP), await said(direct, "INSERT INTO public.kept VALUES ($1, NULL)")
    await keep.and_then(more, fields(1, "one"), fields(2))
    await direct.close()

    async def both() -> bool:
        return bool(await other.fetchval("SELECT count(*) = 2 FROM public.kept"))

    await eventually(both)


class Heard(asyncio.Protocol, asyncio.Transport):
    """In the place of the driver and of the transport: keeps what it hears and what is written."""

    def __init__(self) -> None:
        self.heard, self.written = b"", b""
        self.line = _Line(self, self, asyncio.get_running_loop())

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data


@given(
    unasked=st.tuples(*(st.lists(st.sampled_from([NOTICE, SETTING, MESSAGE]), max_size=3) for _ in "123")),
    is_refused=st.booleans(),
    unheard=st.lists(st.sampled_from([STORED, REFUSAL + READY, TOLD + READY]), max_size=2),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    asked_at=st.integers(0, 40),
)
async def test_an_answer_is_understood_in_whatever_pieces_it_comes(
    unasked: tuple[list[bytes], list[bytes], list[bytes]],
    is_refused: bool,
    unheard: list[bytes],
    cuts: list[int],
    asked_at: int,
) -> None:
    """Also when what came unasked before had only come in part as the statement was said; and the next one is understood, too.

    Answers that nobody waits for may come in between, or after the next one was said.
    """
    both, (before, around, after) = Heard(), unasked
    early, answered = b"".join(before), REFUSAL + READY if is_refused else STORED
    coming = b"".join([*before, *around, answered, *after, *unheard, STORED])
    at = min(asked_at, len(early))
    both.line.data_received(coming[:at])
    answer = both.line.say(b"first", unheard=len(unheard))
    done, all_but_second = len(b"".join([*before, *around, answered])), len(coming) - len(STORED)
    second: asyncio.Future[None] | None = None
    for end in [*sorted(max(at, min(cut, all_but_second)) for cut in cuts), all_but_second]:
        if answer.done() and second is None:
            second = both.line.say(b"second")
        both.line.data_received(coming[at:end])
        at = end
        assert answer.done() is (at >= done)
    assert both.heard == b"".join([*before, *around, *after])
    assert both.line.is_awaited is (second is not None)
    if is_refused:
        assert isinstance(answer.exception(), asyncpg.UniqueViolationError)
    else:
        assert answer.result() is None
    second = second or both.line.say(b"second")
    both.line.data_received(coming[at:-1])
    assert not second.done()
    both.line.data_received(coming[-1:])
    assert second.result() is None
    assert both.written == b"firstsecond"
    third = both.line.say(b"third")
    both.line.data_received(STORED)
    assert third.result() is None


async def test_an_answer_that_nobody_waits_for_is_not_taken_for_the_next_one() -> None:
    both = Heard()
    first = both.line.say(b"first", unheard=1)
    both.line.data_received(STORED)
    assert first.done()
    second = both.line.say(b"second")
    both.line.data_received(STORED)
    assert not second.done()
    both.line.data_received(STORED)
    assert second.done()


async def test_a_part_of_a_message_that_looks_like_the_answer_is_none() -> None:
    both = Heard()
    answer = both.line.say(b"first")
    notice = b"N" + (len(STORED) + 4).to_bytes(4, "big") + STORED
    both.line.data_received(notice[:5])
    both.line.data_received(notice[5:])
    assert both.heard == notice
    assert not answer.done()


async def asleep(
    direct: DirectConnection, other: "asyncpg.Connection[asyncpg.Record]"
) -> asyncio.Future[None]:
    """A statement that the server is busy with."""
    keep = await said(direct, "INSERT INTO public.kept (number) SELECT 1 WHERE pg_sleep(300) IS NOT NULL")
    answer = keep(fields())

    async def busy() -> bool:
        pid = direct.get_server_pid()
        return bool(await other.fetchval("SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1", pid))

    await eventually(busy)
    return answer


async def test_a_session_that_the_server_ends_is_a_lost_connection_as_the_driver_has_it(
    direct: DirectConnection, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    answer = await asleep(direct, other)
    await other.execute("SELECT pg_terminate_backend($1)", direct.get_server_pid())
    with pytest.raises(asyncpg.ConnectionDoesNotExistError) as lost:
        await answer
    assert isinstance(lost.value.__cause__, asyncpg.AdminShutdownError)
    assert direct.is_closed()


async def test_a_close_tells_who_waits_and_leaves_nothing_open_though_it_is_cancelled(
    direct: DirectConnection, other: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, pid = await asleep(direct, other), direct.get_server_pid()

    async def unheard(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(DirectConnection, "_cancel", lambda _, waiter: unheard(waiter))
    closing = asyncio.create_task(direct.close())
    with pytest.raises(asyncpg.InterfaceError, match="given up meanwhile"):
        await answer
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert direct.is_closed()
    await other.execute("SELECT pg_terminate_backend($1)", pid)


async def test_through_a_pooler_that_lends_another_session_for_each(
    database_url: str, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    socket, name = socket_of(database_url)
    async with pooled(socket, user="postgres", database=name, sessions=3) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=disable"
        connections = [await connect_as(DirectConnection, url, application_name="tests") for _ in range(5)]
        ways = []
        for number, connection in enumerate(connections):
            ways.append(await said(connection, KEEP))
            await ways[-1](fields(number, "kept"))
        await asyncio.gather(*(keep(fields(number, "kept")) for number, keep in enumerate(ways, start=5)))
        for _ in range(20):
            await asyncio.gather(
                *(keep.and_then(keep, fields(-1, "refused"), fields(0, "unheard")) for keep in ways),
                return_exceptions=True,
            )
            assert [await connection.fetchval("SELECT 1") for connection in connections] == [1] * 5
        await other.execute("DELETE FROM public.kept WHERE number = -1")
        with pytest.raises(asyncpg.UniqueViolationError):
            await ways[0](fields(0, "again"))
        for connection in connections:
            await connection.close()
    assert await other.fetchval("SELECT count(*) FROM public.kept") == 10


def certificate(folder: Path) -> ssl.SSLContext:
    """Of a server that only this test knows."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(secret + signed.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


@asynccontextmanager
async def encrypted(socket: Path, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a server that speaks TLS, as PostgreSQL does on every socket but a local one."""

    async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        await writer.start_tls(context)
        there, back = await asyncio.open_unix_connection(str(socket))
        await asyncio.gather(passing(reader, back), passing(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_over_an_encrypted_connection(
    database_url: str, other: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    socket, name = socket_of(database_url)
    async with encrypted(socket, certificate(tmp_path)) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{name}?sslmode=require"
        connection: Any = await connect_as(DirectConnection, url, application_name="tests")
        assert connection._transport.get_extra_info("ssl_object") is not None
        keep = await said(connection, KEEP)
        for n in range(20):
            await keep(fields(n, "x" * n * 10_000))
        with pytest.raises(asyncpg.UniqueViolationError):
            await keep(fields(0, "again"))
        assert await connection.fetchval("SELECT sum(length(name)) FROM public.kept") == 1_900_000
        await connection.close()
