"""Names and ids: made from anything, valid always."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sser.audio import portaudio
from edge_sser.settings import names
from edge_sser.settings.names import slug, source_name
from edge_sser.settings.schema import SourceSettings


@pytest.mark.parametrize("module", [names, portaudio], ids=lambda module: module.__name__)
def test_the_examples_in_the_documentation_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@given(st.text(max_size=200))
def test_whatever_the_text_its_slug_is_a_valid_source_name(text: str) -> None:
    assert SourceSettings(name=slug(text, "recording")).name


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("mic", "mic"),
        ("mic:device_1", "device_1"),
        ("-", "stdin"),
        ("/data/Day 1.flac", "day-1"),
        ("./mic", "mic"),
        ("micro.wav", "micro"),
        ("録音.wav", "recording"),
    ],
)
def test_a_source_is_named_after_its_device(device: str, name: str) -> None:
    assert source_name(SourceSettings(device=device)) == name


def test_a_given_name_wins() -> None:
    assert source_name(SourceSettings(device="mic:pulse", name="desk")) == "desk"
