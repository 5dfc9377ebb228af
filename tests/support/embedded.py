"""Other programs that use the embedded servers, and ways to look at the servers' processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from perdure.runtime.embedded import ServerOptions
from perdure.runtime.embedded.layout import Layout

SOON_S = 10.0

# Joins the servers, says their address, then answers each line of input with a query until the input ends.
CLIENT = """
import signal, sys
from pathlib import Path
import psycopg
from perdure.runtime.embedded import EmbeddedServers, ServerOptions
grace, folder, postgres_bin = float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3] else None
signal.signal(signal.SIGINT, lambda *_: None)
options = ServerOptions(grace_s=grace, throwaway=True, postgres_bin=postgres_bin)
with EmbeddedServers(folder, redis=False, options=options) as urls:
    print(urls.database_url, flush=True)
    for line in sys.stdin:
        with psycopg.connect(urls.database_url) as connection:
            print(connection.execute("SELECT pg_postmaster_start_time()").fetchone(), flush=True)
"""


@contextmanager
def client_process(
    folder: Path, options: ServerOptions, *, grace_s: float = 0.2
) -> Iterator[subprocess.Popen[str]]:
    """Another program that uses the servers, in a session of its own like one in another terminal."""
    arguments = [str(grace_s), str(folder), str(options.postgres_bin or "")]
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return said(process)


def one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def run(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((Layout(folder).postgres / "postmaster.pid").read_text().split()[0]))


def owner(folder: Path) -> psutil.Process:
    parent = postmaster(folder).parent()
    assert parent
    return parent
