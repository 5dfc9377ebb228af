"""The generated pages of the reference are the ones in the repository."""

from pathlib import Path

from perdure.surfaces.cli.reference import PAGES, write_pages

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def test_the_pages_are_current(tmp_path: Path) -> None:
    write_pages(tmp_path / "new")
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "new").iterdir()}
    assert written.keys() == PAGES.keys()
    stale = [name for name, page in written.items() if (FOLDER / name).read_text("utf-8") != page]
    assert not stale, "run `python -m perdure.surfaces.cli.reference docs/reference`"
