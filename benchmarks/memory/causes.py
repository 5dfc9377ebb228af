"""Causes of failure, each brought about by running code that really fails, in several ways and with varying values."""

import ast
import asyncio
import base64
import configparser
import contextlib
import csv
import dataclasses
import datetime
import decimal
import enum
import fractions
import gzip
import importlib
import json
import os
import pathlib
import pickle
import random
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
import uuid
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.memory.network import NETWORK_CAUSES

Cause = Callable[[random.Random], object]
WORDS = (
    "invoice image order customer report ledger parcel thumbnail video session address voucher "
    "catalog payment shipment avatar export import mail ticket booking tenant account price"
).split()


def word(rng: random.Random) -> str:
    return rng.choice(WORDS)


def name(rng: random.Random) -> str:
    return f"{word(rng)}_{rng.choice(('id', 'name', 'key', 'total', 'date', 'url'))}"


def place(rng: random.Random) -> pathlib.Path:
    return pathlib.Path(tempfile.gettempdir()) / f"{word(rng)}-{rng.randrange(10**6)}" / f"{word(rng)}.csv"


def folder() -> contextlib.AbstractContextManager[str]:
    return tempfile.TemporaryDirectory()


def is_a_directory(rng: random.Random) -> None:
    with folder() as made:
        target = pathlib.Path(made) / word(rng)
        target.mkdir()
        rng.choice((target.read_text, target.read_bytes, lambda: target.write_text("x")))()


def not_a_directory(rng: random.Random) -> None:
    with folder() as made:
        target = pathlib.Path(made) / word(rng)
        target.touch()
        rng.choice(
            (lambda: os.listdir(target), lambda: (target / "x").read_text(), lambda: os.scandir(target))
        )()


def exists(rng: random.Random) -> None:
    with folder() as made:
        target = pathlib.Path(made) / f"{word(rng)}{rng.randrange(1000)}"
        target.mkdir()
        rng.choice(
            (target.mkdir, lambda: os.mkdir(target), lambda: os.makedirs(target), lambda: target.open("x"))
        )()


def not_empty(rng: random.Random) -> None:
    with folder() as made:
        target = pathlib.Path(made) / f"{word(rng)}{rng.randrange(1000)}"
        (target / word(rng)).mkdir(parents=True)
        rng.choice((target.rmdir, lambda: os.rmdir(target)))()


def sql(*setup: str, fails: Callable[[random.Random], str]) -> Cause:
    def run(rng: random.Random) -> None:
        with contextlib.closing(sqlite3.connect(":memory:")) as db:
            db.execute("PRAGMA foreign_keys = on")
            table = f"{word(rng)}s"
            for statement in setup:
                db.execute(statement.replace("@", table))
            db.execute(fails(rng).replace("@", table))

    return run


def locked(rng: random.Random) -> None:
    with folder() as made:
        path = pathlib.Path(made) / f"{word(rng)}.db"
        with (
            contextlib.closing(sqlite3.connect(path)) as first,
            contextlib.closing(sqlite3.connect(path, timeout=0)) as second,
        ):
            first.execute("CREATE TABLE t (x)")
            first.execute("BEGIN EXCLUSIVE")
            second.execute(rng.choice(("INSERT INTO t VALUES (1)", "SELECT * FROM t", "BEGIN IMMEDIATE")))


def archive(rng: random.Random) -> None:
    junk = rng.randbytes(rng.randrange(20, 60)).replace(b"\x1f\x8b", b"xx").replace(b"\x78", b"y")
    with folder() as made:
        path = pathlib.Path(made) / f"{word(rng)}.bin"
        path.write_bytes(b"\x00" + junk)
        rng.choice(
            (
                lambda: gzip.decompress(junk),
                lambda: zlib.decompress(b"\x00" + junk),
                lambda: zipfile.ZipFile(path),
                lambda: tarfile.open(path),
            )
        )()


def call(rng: random.Random) -> None:
    scope: dict[str, Any] = {}
    function, first, second = f"make_{word(rng)}", name(rng), f"{word(rng)}_x"
    exec(f"def {function}({first}, {second}): pass", scope)
    rng.choice(
        (
            lambda: scope[function](1),
            lambda: scope[function](),
            lambda: scope[function](1, 2, 3),
            lambda: scope[function](1, 2, **{f"{word(rng)}_y": 3}),
        )
    )()


def enumeration(rng: random.Random) -> None:
    kind = enum.Enum(word(rng).title(), {"A": 1, "B": 2})
    kind(rng.choice((word(rng), rng.randrange(3, 99))))


def frozen(rng: random.Random) -> None:
    field = name(rng)
    made: Any = dataclasses.make_dataclass(word(rng).title(), [field], frozen=True)(1)
    rng.choice((lambda: setattr(made, field, 2), lambda: delattr(made, field)))()


def recursion(rng: random.Random) -> object:
    def down(value: int) -> int:
        return down(value + 1) + 1

    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return rng.choice((lambda: down(rng.randrange(9)), lambda: repr(deep), lambda: json.dumps(deep)))()


def timeout(rng: random.Random) -> object:
    async def slow() -> None:
        await asyncio.sleep(10)

    async def bounded() -> None:
        async with asyncio.timeout(rng.uniform(0.0001, 0.001)):
            await slow()

    def process() -> object:
        return subprocess.run(["sleep", str(rng.randrange(5, 60))], timeout=0.001, check=False)

    def quiet() -> object:
        first, second = socket.socketpair()
        with first, second:
            first.settimeout(0.0005)
            return first.recv(1)

    return rng.choice(
        (
            lambda: asyncio.run(bounded()),
            lambda: asyncio.run(asyncio.wait_for(slow(), 0.0005)),
            process,
            quiet,
        )
    )()


def in_pool(run: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def one(*ways: Callable[[random.Random], Any]) -> Cause:
    return lambda rng: rng.choice(ways)(rng)


def spoiled(rng: random.Random) -> str:
    return rng.choice(("", "{", '{"a": }', "<html>", "[1, 2", "{'a': 1}", f"{word(rng)}"))


CAUSES: Mapping[str, Cause] = {
    **NETWORK_CAUSES,
    "missing file": one(
        lambda r: place(r).read_text(),
        lambda r: os.listdir(place(r)),
        lambda r: os.stat(place(r)),
        lambda r: shutil.copy(place(r), tempfile.gettempdir()),
        lambda r: place(r).unlink(),
    ),
    "missing program": one(lambda r: subprocess.run([f"{word(r)}-{r.randrange(99)}ctl"], check=True)),
    "program failed": one(
        lambda r: subprocess.run(["sh", "-c", f"exit {r.randrange(1, 100)}"], check=True),
        lambda r: subprocess.check_output(["false"]),
        lambda r: subprocess.check_call(["ls", f"/no/{word(r)}"], stderr=subprocess.DEVNULL),
    ),
    "is a directory": is_a_directory,
    "not a directory": not_a_directory,
    "already exists": exists,
    "directory not empty": not_empty,
    "malformed JSON": lambda r: json.loads(spoiled(r)),
    "undecodable bytes": one(
        lambda r: (word(r).encode() + b"\xff\xfe").decode(),
        lambda r: (word(r).encode() + b"\xe9").decode("utf-8"),
        lambda r: f"{word(r)}é".encode().decode("ascii"),
    ),
    "unencodable text": one(
        lambda r: f"{word(r)}é".encode("ascii"),
        lambda r: f"{word(r)}→".encode("latin-1"),
        lambda r: f"{word(r)}\ud800".encode(),
    ),
    "missing key": one(
        lambda r: {}[name(r)],
        lambda r: {name(r): 1}[f"{word(r)}_zip"],
        lambda r: os.environ[f"{word(r).upper()}_TOKEN"],
    ),
    "index out of range": one(
        lambda r: [1, 2][r.randrange(5, 90)],
        lambda r: (1, 2)[r.randrange(5, 90)],
        lambda r: word(r)[90],
        lambda r: [].pop(),
    ),
    "attribute of None": lambda r: getattr(None, name(r)),
    "attribute of another type": one(
        lambda r: getattr({}, name(r)), lambda r: getattr([], name(r)), lambda r: getattr("", name(r))
    ),
    "wrong arguments of a call": call,
    "operands of different types": one(
        lambda r: r.randrange(9) + word(r),
        lambda r: word(r) + r.randrange(9),
        lambda r: [] + {},
        lambda r: None * 2,
    ),
    "not a number": one(
        lambda r: int(word(r)),
        lambda r: float(word(r)),
        lambda r: int(f"{r.randrange(99)},5"),
        lambda r: float(""),
    ),
    "values to unpack": one(lambda r: exec_unpack(r.randrange(3, 9)), lambda r: exec_unpack(1)),
    "division by zero": one(
        lambda r: r.randrange(9) / 0,
        lambda r: r.randrange(9) % 0,
        lambda r: r.random() / 0.0,
        lambda r: fractions.Fraction(r.randrange(9), 0),
        lambda r: decimal.Decimal(r.randrange(1, 9)) / 0,
    ),
    "recursion": recursion,
    "missing module": one(
        lambda r: importlib.import_module(f"{word(r)}_{word(r)}"),
        lambda r: importlib.import_module(f"json.{word(r)}"),
    ),
    "timeout": timeout,
    "no such table": sql(
        fails=lambda r: r.choice(("SELECT * FROM @", "INSERT INTO @ VALUES (1)", "DELETE FROM @"))
    ),
    "unique constraint": sql(
        "CREATE TABLE @ (id INTEGER PRIMARY KEY, code TEXT UNIQUE)",
        "INSERT INTO @ VALUES (1, 'a')",
        fails=lambda r: r.choice(("INSERT INTO @ VALUES (1, 'b')", "INSERT INTO @ VALUES (2, 'a')")),
    ),
    "not-null constraint": sql(
        "CREATE TABLE @ (id INTEGER, code TEXT NOT NULL)",
        fails=lambda r: r.choice(("INSERT INTO @ VALUES (1, NULL)", "INSERT INTO @ (id) VALUES (2)")),
    ),
    "foreign key": sql(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE @ (p REFERENCES parents)",
        fails=lambda r: f"INSERT INTO @ VALUES ({r.randrange(99)})",
    ),
    "SQL syntax": sql(
        fails=lambda r: r.choice(("SELEC * FROM x", "SELECT FROM WHERE", "INSERT x INTO y", f"{word(r)} all"))
    ),
    "database is locked": locked,
    "broken archive": archive,
    "malformed XML": lambda r: ET.fromstring(
        r.choice((f"<{word(r)}>", f"<a><{word(r)}></a>", "", f"{word(r)}", "<a b=c/>", "<a>&nbsp;</a>"))
    ),
    "unreadable date": one(
        lambda r: datetime.datetime.fromisoformat(f"{word(r)} {r.randrange(99)}"),
        lambda r: datetime.datetime.strptime(f"{r.randrange(32, 99)}.2030", "%d.%m.%Y"),
        lambda r: datetime.date.fromisoformat(f"2030-13-{r.randrange(10, 28)}x"),
    ),
    "unreadable UUID": lambda r: uuid.UUID(f"{word(r)}-{r.randrange(10**6)}"),
    "unpicklable": one(
        lambda r: pickle.loads(word(r).encode()),
        lambda r: pickle.loads(b""),
    ),
    "bad base64": one(
        lambda r: base64.b64decode(word(r)[:3]),
        lambda r: base64.b64decode(f"{word(r)}=="[:5]),
        lambda r: base64.b64decode("é"),
    ),
    "short buffer": one(
        lambda r: struct.unpack(f"<{r.randrange(2, 9)}I", b"\x00"),
        lambda r: struct.unpack_from("<Q", bytes(r.randrange(7))),
    ),
    "bad regular expression": lambda r: re.compile(
        r.choice((f"[{word(r)}", f"({word(r)}", "*x", "a{2,1}", f"(?P<{word(r)}"))
    ),
    "unreadable decimal": lambda r: decimal.Decimal(r.choice((word(r), "1,5", "", "--1"))),
    "missing section of settings": one(
        lambda r: configparser.ConfigParser().get(word(r), name(r)),
        lambda r: configparser.ConfigParser().items(word(r)),
    ),
    "not a member of an enumeration": enumeration,
    "frozen dataclass": frozen,
    "Python syntax": lambda r: ast.parse(
        r.choice((f"def {word(r)}(", f"{word(r)} {word(r)}", "if x", "1 +", "x = = 1"))
    ),
    "not serializable": lambda r: json.dumps(
        r.choice(
            (
                object(),
                {1, 2},
                b"x",
                datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
                {word(r): uuid.uuid4()},
            )
        )
    ),
    "out of memory": one(
        lambda r: bytearray(2**60 + r.randrange(9)), lambda r: [0] * (2**58), lambda r: b"x" * 2**60
    ),
    "error in a CSV": lambda r: list(csv.reader([f'"{word(r)}"x\x00' + "y" * 10], strict=True)),
}


def exec_unpack(count: int) -> None:
    first, second = [0] * count
    del first, second


def failures(each: int, *, seed: int = 1) -> Sequence[tuple[str, BaseException]]:
    """`each` failures of every cause, with the cause's name."""
    found: list[tuple[str, BaseException]] = []
    for label, cause in CAUSES.items():
        rng = random.Random(f"{seed} {label}")
        for _ in range(each):
            try:
                cause(rng)
            except Exception as error:  # noqa: BLE001 - to fail is what it is for
                found.append((label, error))
            else:
                raise AssertionError(f"{label} did not fail")
    return found
