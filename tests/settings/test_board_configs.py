"""Every settings file for a board is complete and valid, also with its options switched on."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from edge_sser.model.card_file import card_of
from edge_sser.monitor.operating import expected_rule
from edge_sser.settings.load import load_settings, section_in
from edge_sser.settings.schema import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DIRECTORY = Path(__file__).parents[2] / "firmware_configs"
BOARDS = (
    "generic-x86", "jetson-agx-orin", "jetson-orin-nano", "jetson-orin-nx", "jetson-thor", "jetson-xavier-nx",
    "raspberry-pi-4", "raspberry-pi-5",
)  # fmt: skip
SECTIONS = {name for name, field in Settings.model_fields.items() if section_in(field.annotation) is not None}
IN_EFFECT = {name for name in SECTIONS if getattr(Settings(), name) is not None}  # also without a file
FIRST_SETTINGS = Path(__file__).parents[2] / "systemd" / "config.toml"


def all_switched_on(text: str) -> str:
    """The file with its offers, lines that begin with `#` and no blank, as settings."""
    return re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)


def test_every_board_has_its_file_and_its_row() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.toml")} == set(BOARDS)
    page = (DIRECTORY.parent / "docs" / "boards.md").read_text()
    for board in BOARDS:
        assert f"| {board}.toml |" in page


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_is_valid(board: str) -> None:
    settings = load_settings(DIRECTORY / f"{board}.toml", environ={}).settings
    assert settings.mqtt is not None
    assert settings.file is not None
    assert settings.metrics is None  # which needs an extra
    assert settings.history is not None  # what the web page shows
    assert settings.history.enabled


@pytest.mark.parametrize(
    "path", [*(DIRECTORY / f"{board}.toml" for board in BOARDS), FIRST_SETTINGS], ids=lambda p: p.stem
)
def test_what_a_file_offers_is_valid_too(path: Path, tmp_path: Path) -> None:
    text = path.read_text().replace("USER@HOST", "user@host")
    switched_on = tmp_path / path.name
    switched_on.write_text(all_switched_on(text))
    assert len(tomllib.loads(switched_on.read_text())) > len(tomllib.loads(text))
    settings = load_settings(switched_on, environ={}).settings
    expected_rule(settings, card_of(None))  # offered thresholds suit those of the model's card


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_names_the_tables_in_effect_and_says_what_it_is(board: str) -> None:
    text = (DIRECTORY / f"{board}.toml").read_text()
    assert set(tomllib.loads(text)) >= {*IN_EFFECT, "mqtt", "file", "history"}
    offered = set(tomllib.loads(all_switched_on(text)))
    assert offered >= {*IN_EFFECT, "mqtt", "file", "history", "metrics", "web", "node"}
    header = text.split("\n\n")[0]
    assert "Not tested on this board" in header
    assert "Power:" in header
    if board.startswith("jetson"):
        assert "nvpmodel -q" in header


@pytest.mark.parametrize("board", BOARDS)
def test_every_setting_says_why(board: str) -> None:
    lines = (DIRECTORY / f"{board}.toml").read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("["):
            assert lines[number - 1].startswith("# "), f"{line} has no word on it"


@pytest.mark.parametrize("board", BOARDS)
def test_a_services_files_are_where_the_unit_lets_it_write(board: str) -> None:
    settings = load_settings(DIRECTORY / f"{board}.toml", environ={}).settings
    assert settings.file is not None
    assert settings.file.path in (Path("events.jsonl"), Path("/run/edge-sser/events.jsonl"))  # below what it is given
    assert settings.history is not None
    assert settings.history.path == Path("history.sqlite")  # below the state directory, so that a restart keeps it
    unit = (DIRECTORY.parent / "systemd" / "edge-sser.service").read_text()
    assert "\nStateDirectory=edge-sser\n" in unit
    assert "\nRuntimeDirectory=edge-sser\n" in unit
