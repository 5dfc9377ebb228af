"""Failures of the network, against servers of this machine's loopback that behave badly."""

import asyncio
import http.client
import random
import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing

Cause = Callable[[random.Random], object]
HERE = "127.0.0.1"
WITHIN_S = 5


def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


def served(answer: Callable[[socket.socket], None], ask: Callable[[int], object]) -> object:
    """Ask a server that answers one connection in its own way."""
    with closing(socket.create_server((HERE, 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            return ask(server.getsockname()[1])
        finally:
            thread.join(WITHIN_S)


def refused(rng: random.Random) -> object:
    port = closed_port()
    ways: tuple[Callable[[], object], ...] = (
        lambda: socket.create_connection((HERE, port)),
        lambda: asyncio.run(asyncio.open_connection(HERE, port)),
        lambda: urllib.request.urlopen(f"http://{HERE}:{port}/{rng.randrange(99)}"),
        lambda: http.client.HTTPConnection(HERE, port).request("GET", "/"),
    )
    return rng.choice(ways)()


def hang_up(connection: socket.socket) -> None:
    connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def leave(connection: socket.socket) -> None:
    connection.recv(65536)


def closed_by_peer(rng: random.Random) -> object:
    def plain(port: int) -> object:
        with socket.create_connection((HERE, port)) as line:
            line.sendall(b"GET / HTTP/1.1\r\n\r\n" * 9)
            return line.recv(1) or line.recv(1)

    def over_http(port: int) -> object:
        connection = http.client.HTTPConnection(HERE, port, timeout=WITHIN_S)
        connection.request("GET", f"/{rng.randrange(99)}")
        return connection.getresponse()

    ask, answer = rng.choice(((plain, hang_up), (over_http, hang_up), (over_http, leave)))
    return served(answer, ask)


def answers(status: str) -> Cause:
    def run(rng: random.Random) -> object:
        def answer(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(f"HTTP/1.0 {status}\r\nContent-Length: 0\r\n\r\n".encode())

        return served(
            answer, lambda port: urllib.request.urlopen(f"http://{HERE}:{port}/{rng.randrange(9999)}")
        )

    return run


def one_of(*causes: Cause) -> Cause:
    return lambda rng: rng.choice(causes)(rng)


def no_tls(rng: random.Random) -> object:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(rng.choice((b"220 hello there\r\n", b"HTTP/1.0 400 Bad Request\r\n\r\n")))

    def ask(port: int) -> object:
        context = ssl.create_default_context()
        with socket.create_connection((HERE, port)) as line:
            return context.wrap_socket(line, server_hostname="localhost")

    return served(answer, ask)


def taken(rng: random.Random) -> object:
    with closing(socket.create_server((HERE, 0))) as server:
        port = server.getsockname()[1]

        async def listen() -> None:
            await asyncio.start_server(lambda *_: None, HERE, port)

        ways: tuple[Callable[[], object], ...] = (
            lambda: socket.create_server((HERE, port)),
            lambda: asyncio.run(listen()),
            lambda: socket.socket().bind((HERE, port)),
        )
        return rng.choice(ways)()


NETWORK_CAUSES: Mapping[str, Cause] = {
    "connection refused": refused,
    "connection closed by peer": closed_by_peer,
    "server error": one_of(
        answers("500 Internal Server Error"), answers("502 Bad Gateway"), answers("503 Service Unavailable")
    ),
    "rate limit": answers("429 Too Many Requests"),
    "not found over HTTP": one_of(answers("404 Not Found"), answers("410 Gone")),
    "not allowed over HTTP": one_of(answers("401 Unauthorized"), answers("403 Forbidden")),
    "no TLS on the other side": no_tls,
    "port in use": taken,
}
