"""The examples of the testing guide, run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "testing.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")
OPTIONS = ["-q", "-p", "no:randomly", "-p", "no:valkey", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]


def test_the_examples_of_the_guide_work(tmp_path: Path) -> None:
    blocks = BLOCK.findall(GUIDE.read_text("utf-8"))
    for number, block in enumerate(blocks):
        named = FILE.match(block)
        (tmp_path / (named[1] if named else f"test_{number}.py")).write_text(block, "utf-8")
    assert {"shop.py", "conftest.py"} <= {path.name for path in tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, f"--rootdir={tmp_path}", str(tmp_path)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"\b7 passed", done.stdout), done.stdout[-2000:]
