"""The generated pages of the reference are the ones in the repository."""

from pathlib import Path

import pytest

from perdure.surfaces.cli.reference import PAGES, write_pages

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    again = "run `python -m perdure.surfaces.cli.reference docs/reference`"
    assert (FOLDER / name).read_text("utf-8") == PAGES[name](), again


def test_the_pages_can_be_written_anew(tmp_path: Path) -> None:
    write_pages(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(PAGES)
