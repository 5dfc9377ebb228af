"""Load the user's application: a module with its jobs."""

import importlib
import importlib.util
import sys
from contextlib import redirect_stdout
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from perdure.domain.errors import BrokenApplication, InvalidOption, PerdureError, UnknownKind
from perdure.domain.kind import Kind
from perdure.runtime.broken_application import broken

AnyKind = Kind[..., Any]
NAMED = 5
ANOTHER = "name the file or module that has your jobs; `perdure init` writes a first one"


def load_kinds(app: str) -> dict[str, AnyKind]:
    """Import `app` and give every kind of job that is known then, by name.

    `app` is `module`, `module:attribute` or `path/to/file.py`. Raises InvalidOption when it is not there or two functions
    claim one name, and BrokenApplication when it lacks the attribute or any job. What its code raises is raised.
    """
    _require_attribute(app, load_module(app))
    kinds: dict[str, AnyKind] = {}
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if isinstance(value, Kind):
                _add(kinds, value)
    if not kinds:
        raise BrokenApplication(
            f"{app} defines and imports no job", next_step="decorate a function with `@perdure.job`"
        )
    return kinds


def kind_of(app: str, name: str) -> AnyKind:
    """One kind of an application, imported here; what it prints goes to stderr.

    Raises UnknownKind, and InvalidOption when the application is not there or cannot be imported.
    """
    try:
        with redirect_stdout(sys.stderr):
            kinds = load_kinds(app)
    except PerdureError:
        raise
    except (Exception, SystemExit) as error:
        raise broken(app, error) from error
    if name not in kinds:
        near = get_close_matches(name, kinds, n=1)
        known = ", ".join(sorted(kinds)[:NAMED]) + (", …" if len(kinds) > NAMED else "")
        raise UnknownKind(
            "kind",
            f"{app} has no job {name!r}",
            next_step=f"did you mean {near[0]}?" if near else f"it has: {known}",
        )
    return kinds[name]


def _add(kinds: dict[str, AnyKind], kind: AnyKind) -> None:
    other = kinds.setdefault(kind.name, kind)
    if other is not kind and other.function.__code__ is not kind.function.__code__:
        where = " and ".join(
            f"{one.function.__module__}.{one.function.__qualname__}" for one in (other, kind)
        )
        raise InvalidOption(
            "name",
            f"two jobs are called {kind.name!r}: {where}",
            next_step='give one of them `name="..."`',
        )


def require_application(app: str) -> None:
    """Refuse an application that is not there, and import nothing of it. Raises InvalidOption."""
    name = _module_name(app)
    if _names_file(name):
        _require_file(Path(name))
        return
    top = name.partition(".")[0]
    if not top or PathFinder.find_spec(top, [str(Path.cwd()), *sys.path]) is None:
        raise _no_module(name)


def load_module(app: str) -> ModuleType:
    """Import the module of `app`; its folder (for a file) or the working folder is importable afterwards."""
    name = _module_name(app)
    if _names_file(name):
        return _load_file(Path(name))
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise _no_module(name) from error


def _require_attribute(app: str, module: ModuleType) -> None:
    name = app.removeprefix(_module_name(app)).removeprefix(":")
    if name and not hasattr(module, name):
        known = [each for each in vars(module) if not each.startswith("_")]
        near = get_close_matches(name, known, n=1)
        step = f"did you mean {near[0]}?" if near else f"leave it out: {_module_name(app)}"
        raise BrokenApplication(f"{_module_name(app)} has no {name!r}", next_step=step)


def _module_name(app: str) -> str:
    return app.rpartition(":")[0] if ":" in app and not Path(app).exists() else app


def _names_file(name: str) -> bool:
    return name.endswith(".py") or Path(name).is_file()


def _no_module(name: str) -> InvalidOption:
    return InvalidOption("app", f"there is no module {name!r} here ({Path.cwd()})", next_step=ANOTHER)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InvalidOption("app", f"there is no file {path}", next_step=ANOTHER)


def _load_file(path: Path) -> ModuleType:
    _require_file(path)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise InvalidOption("app", f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]  # half a module must not pass for a whole one
        raise
    return module
