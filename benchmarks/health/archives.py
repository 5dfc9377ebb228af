"""Where the public data lie, and reading them. Nothing here splits, scales or chooses."""

import csv
import io
import json
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Series:
    """One series of NAB: seconds, values, and the labelled windows in seconds."""

    name: str
    category: str
    at: np.ndarray
    values: np.ndarray
    windows: list[tuple[float, float]]


@dataclass(frozen=True)
class Server:
    """One server of ASD; the training part has no labels."""

    name: str
    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Engines:
    """One set of C-MAPSS: rows of unit, cycle, 3 settings, 21 sensors; the test engines' true remaining cycles."""

    train: np.ndarray
    test: np.ndarray
    remaining: np.ndarray


@dataclass(frozen=True)
class NodeFailure:
    """One entry of LANL's log."""

    system: int
    nodes: int
    node: int
    at: datetime
    down_minutes: float
    cause: str


def _seconds(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def nab(folder: Path) -> list[Series]:
    with tarfile.open(folder / "nab.tar.xz") as archive:
        files = {one.name: archive.extractfile(one) for one in archive.getmembers() if one.isfile()}
        texts = {name: file.read().decode() for name, file in files.items() if file is not None}
    windows = json.loads(texts["nab/labels/combined_windows.json"])
    found = []
    for name in sorted(windows):
        rows = list(csv.reader(io.StringIO(texts[f"nab/data/{name}"])))[1:]
        found.append(
            Series(
                name=name,
                category=name.partition("/")[0],
                at=np.array([_seconds(row[0]) for row in rows]),
                values=np.array([float(row[1]) for row in rows]),
                windows=[(_seconds(first), _seconds(last)) for first, last in windows[name]],
            )
        )
    return found


def asd(folder: Path) -> list[Server]:
    arrays = np.load(folder / "asd-servers-1-6.npz", allow_pickle=False)
    names = sorted({name.partition("__")[0] for name in arrays.files})
    return [
        Server(
            name,
            arrays[f"{name}__train"].astype(float),
            arrays[f"{name}__test"].astype(float),
            arrays[f"{name}__test_label"].astype(bool),
        )
        for name in names
    ]


def cmapss(folder: Path, name: str) -> Engines:
    with tarfile.open(folder / "cmapss-fd001-fd002.tar.xz") as archive:

        def read(part: str) -> np.ndarray:
            file = archive.extractfile(f"cmapss/{part}_{name}.txt")
            assert file is not None
            return np.loadtxt(io.StringIO(file.read().decode()))

        return Engines(read("train"), read("test"), read("RUL"))


def lanl(folder: Path) -> Iterator[NodeFailure]:
    causes = ("Facilities", "Hardware", "Human Error", "Network", "Undetermined", "Software")
    with lzma.open(folder / "lanl.csv.xz", "rt", encoding="latin-1") as text:
        next(text)
        for row in csv.DictReader(text):
            started = row["Prob Started (mm/dd/yy hh:mm)"]
            if not started or not row["nodes"]:
                continue
            yield NodeFailure(
                system=int(row["System"]),
                nodes=int(row["nodes"]),
                node=int(row["nodenumz"]),
                at=datetime.strptime(started, "%m/%d/%Y %H:%M"),  # noqa: DTZ007  (the log has local times)
                down_minutes=float(row["Down Time"] or 0),
                cause=next((cause for cause in causes if row[cause]), ""),
            )
