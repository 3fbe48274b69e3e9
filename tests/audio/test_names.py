"""Names and ids: made from anything, valid always."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sser.audio import names, open, portaudio
from edge_sser.audio.names import slug
from edge_sser.settings.schema import SourceSettings


@pytest.mark.parametrize("module", [names, open, portaudio], ids=lambda module: module.__name__)
def test_the_examples_in_the_documentation_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@given(st.text(max_size=200))
def test_whatever_the_text_its_slug_is_a_valid_source_name(text: str) -> None:
    assert SourceSettings(name=slug(text, "recording")).name
