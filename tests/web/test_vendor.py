"""What was made by others is exactly what was taken, with its licence."""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "src/perdure/surfaces/web/static/vendor", ROOT / "tests/web/vendor")
ROW = re.compile(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_every_file_has_the_recorded_hash_and_a_licence(folder: Path) -> None:
    recorded = dict(ROW.findall((folder / "README.md").read_text("utf-8")))
    files = {path for path in folder.iterdir() if path.suffix in {".js", ".css"}}
    assert recorded.keys() == {path.name for path in files}
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == recorded[path.name], path.name
        name = path.name.partition("-")[0]
        assert (folder / f"{name}.LICENSE").stat().st_size > 200
