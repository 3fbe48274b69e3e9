"""The committed table of the references, and the page, come from the committed predictions to the last digit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written() -> dict[Path, str]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import reference_tables
    finally:
        sys.path.pop(0)
    return reference_tables.contents(ROOT)


def test_the_committed_predictions_make_the_committed_tables(written: dict[Path, str]) -> None:
    for path, text in written.items():
        assert (ROOT / path).read_text("utf-8") == text, f"{path}: run python scripts/reference_tables.py"


def test_every_block_of_the_page_has_content(written: dict[Path, str]) -> None:
    page = next(text for path, text in written.items() if path.suffix == ".md")
    for block in ("leaky", "scores", "cost", "goals", "systems", "mended"):
        content = page.partition(f"<!-- {block} -->")[2].partition("<!-- end -->")[0]
        assert content.strip(), f"{block} is empty"
