"""Which extras are installed, as the distribution itself declares them."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from perdure.runtime import extras

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_extra_is_known_and_nothing_is_missing_where_all_tests_run() -> None:
    declared = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    assert extras.missing_of_extras() == dict.fromkeys(declared.keys() - {"all", "dev"}, ())


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package in {"zstandard", "uvicorn"}:
            raise metadata.PackageNotFoundError(package)
        return metadata.version(package)

    monkeypatch.setattr(extras, "version", version)
    missing = {extra: packages for extra, packages in extras.missing_of_extras().items() if packages}
    assert missing == {"memory": ("uvicorn",), "state": ("zstandard",), "web": ("uvicorn",)}


def test_a_source_that_is_not_installed_knows_of_no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "DISTRIBUTION", "perdure-that-is-nowhere")
    assert extras.missing_of_extras() == {}
