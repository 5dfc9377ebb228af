"""Where the vectors of a data folder are served, told by a file beside them; imports nothing of the server."""

import fcntl
import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Found:
    """Where a server answers, and the key that it asks for."""

    url: str
    api_key: str
    pid: int = 0

    def as_text(self) -> str:
        return json.dumps(asdict(self))


def address_file(folder: Path) -> Path:
    """The file in a data folder that says where its vectors are served."""
    return folder / "qdrant.json"


def served(folder: Path) -> Found | None:
    """Where the vectors of a data folder are served now; None when nobody does."""
    try:
        with (folder / "qdrant.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                told = json.loads(address_file(folder).read_text("utf-8"))
                return Found(url=told["url"], api_key=told["api_key"], pid=told["pid"])
    except (OSError, ValueError, KeyError):
        pass
    return None
