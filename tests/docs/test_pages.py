"""The documents stay short enough to be read, and name nothing that is not there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from pages import GENERATED, PAGES, ROOT, name_of

from edge_sser.events import Episode, Expected, Health, Reading, Status

README_WORDS = 1_200
PAGE_WORDS = 1_500
LINE_CHARACTERS = 120
# Pages that only list options, fields or terms may be longer.
REFERENCE = (
    "docs/events.md",
    "docs/settings.md",
    "docs/doctor.md",
    "docs/corpora.md",
    "CHANGELOG.md",
)
SOURCES = ("edge_sser", "train", "export", "benchmarks", "scripts", "tests", "docs", "systemd", "firmware_configs")

WRITTEN = [page for page in PAGES if page not in GENERATED]


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_a_page_is_short(page: Path) -> None:
    words = len(page.read_text("utf-8").split())
    if page.name == "README.md":
        assert words <= README_WORDS
    elif name_of(page) not in REFERENCE:
        assert words <= PAGE_WORDS


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_no_line_is_long(page: Path) -> None:
    lines = page.read_text("utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > LINE_CHARACTERS] == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name_of(page)}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.MULTILINE)
            assert anchor in {slug(title) for title in titles}, f"{name_of(page)}: {target}"


def test_every_field_of_an_event_is_explained() -> None:
    page = (ROOT / "docs/events.md").read_text("utf-8")
    fields = {
        field.name for event in (Reading, Episode, Health, Status, Expected) for field in dataclasses.fields(event)
    }
    assert [field for field in sorted(fields) if f"`{field}`" not in page] == []


def slug(title: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name != "CHANGELOG.md"], ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    pattern = rf"(?<![\w/.-])((?:{'|'.join(SOURCES)})/[\w./-]*\w\.(?:py|md|toml|json|csv|onnx|flac|safetensors|css))\b"
    named = set(re.findall(pattern, page.read_text("utf-8")))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_device_modules_that_the_architecture_names_exist() -> None:
    """The architecture page leaves `edge_sser/` out, to keep its tables narrow."""
    packages = "|".join(path.name for path in (ROOT / "edge_sser").iterdir() if path.is_dir())
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(rf"`((?:{packages})/[\w/]+\.py)`", text)) - set(re.findall(r"`(train/[\w/]+\.py)`", text))
    assert len(named) > 15
    assert [path for path in sorted(named) if not (ROOT / "edge_sser" / path).exists()] == []


def test_every_page_is_on_the_map() -> None:
    lists = (ROOT / "mkdocs.yml").read_text("utf-8")
    docs = ROOT / "docs"
    pages = [page for page in docs.rglob("*.md") if page not in GENERATED]
    assert [name_of(page) for page in pages if f" {page.relative_to(docs).as_posix()}" not in lists] == []


def test_reference_pages_exist() -> None:
    assert [page for page in REFERENCE if not (ROOT / page).exists()] == []
