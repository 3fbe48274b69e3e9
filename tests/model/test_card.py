"""Trust in a score by the seconds of speech in its window, and the least speech of a scored window."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sser.model.card import Curve, check_curve, least_speech_ratio, trust

CURVE = ((0.5, 0.2), (1.0, 0.6), (3.0, 1.0))


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    seconds = draw(st.lists(st.integers(1, 60), min_size=1, max_size=8, unique=True).map(sorted))
    values = draw(st.lists(st.floats(0.0, 1.0), min_size=len(seconds) - 1, max_size=len(seconds) - 1).map(sorted))
    return tuple(zip([tick / 20.0 for tick in seconds], [*values, 1.0], strict=True))


@given(curve=curves(), shorter=st.floats(0.0, 3.0), longer=st.floats(0.0, 3.0))
def test_more_speech_is_never_trusted_less(curve: Curve, shorter: float, longer: float) -> None:
    check_curve(curve)
    shorter, longer = sorted((shorter, longer))
    assert 0.0 <= trust(curve, shorter) <= trust(curve, longer) <= 1.0
    assert trust(curve, 3.0) == 1.0


@given(curve=curves())
def test_a_window_needs_the_speech_at_which_trust_reaches_a_half_within_sane_bounds(curve: Curve) -> None:
    ratio = least_speech_ratio(curve)
    assert 0.1 <= ratio <= 0.5
    if ratio < 0.5:
        assert trust(curve, 3.0 * ratio) >= 0.5 - 1e-9
    if ratio > 0.1 and curve[0][1] < 0.5:
        assert trust(curve, 3.0 * ratio) <= 0.5 + 1e-9


def test_trust_is_linear_between_the_points_and_level_outside() -> None:
    assert [trust(CURVE, seconds) for seconds in (0.0, 0.5, 0.75, 2.0, 3.0)] == pytest.approx([0.2, 0.2, 0.4, 0.8, 1.0])
    assert least_speech_ratio(CURVE) == pytest.approx(0.875 / 3.0)
    assert least_speech_ratio(((0.25, 0.7), (3.0, 1.0))) == 0.1
    assert least_speech_ratio(((2.0, 0.1), (3.0, 1.0))) == 0.5


def test_without_a_curve_everything_is_trusted() -> None:
    assert trust(None, 0.03) == 1.0
    assert least_speech_ratio(None) == 0.25


@pytest.mark.parametrize(
    "curve",
    [
        (),
        ((0.0, 0.5), (3.0, 1.0)),
        ((1.0, 0.5), (1.0, 1.0)),
        ((2.0, 0.5), (1.0, 1.0)),
        ((1.0, 0.5), (3.5, 1.0)),
        ((1.0, 0.5), (math.nan, 1.0)),
        ((1.0, -0.1), (3.0, 1.0)),
        ((1.0, 0.5), (2.0, 0.4), (3.0, 1.0)),
        ((1.0, math.nan), (3.0, 1.0)),
        ((1.0, 0.5), (3.0, 0.9)),
        ((1.0, 1.5), (3.0, 1.5)),
    ],
)
def test_what_is_no_curve_is_refused(curve: Curve) -> None:
    with pytest.raises(ValueError, match="speech_trust"):
        check_curve(curve)
