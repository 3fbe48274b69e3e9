"""The range that 8 bits cover: what each method keeps and gives up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantised import fp32, spoken

from edge_sser.export.calibration import BINS, Histogram, Method, divergence, find_range, observe
from edge_sser.export.quantize import activations


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


def test_minmax_keeps_all_and_percentile_gives_up_what_is_rare() -> None:
    values = np.append(np.random.default_rng(0).normal(0.0, 1.0, 200_000), [60.0])
    seen = histogram(values)
    assert find_range(seen, Method.MINMAX, symmetric=False) == pytest.approx((values.min(), 60.0))
    low, high = find_range(seen, Method.PERCENTILE, symmetric=False)
    assert 3.0 < high < 5.0
    assert -5.0 < low < -3.0


def test_entropy_gives_up_the_tail_where_it_costs_more_steps_than_it_holds() -> None:
    random = np.random.default_rng(1)
    values = np.abs(np.append(random.normal(0.0, 1.0, 500_000), random.uniform(5.0, 40.0, 200)))
    seen = histogram(values)
    _, high = find_range(seen, Method.ENTROPY, symmetric=False)
    assert high < 0.7 * values.max()
    assert divergence(seen, 0.0, high) < divergence(seen, 0.0, values.max())


def test_entropy_keeps_all_where_all_of_it_matters() -> None:
    seen = histogram(np.random.default_rng(2).uniform(0.0, 3.0, 500_000))
    assert find_range(seen, Method.ENTROPY, symmetric=False)[1] > 2.9


def test_least_squares_clip_one_end_and_keep_the_other() -> None:
    values = np.append(np.random.default_rng(4).normal(0.0, 1.0, 500_000), [10.0])
    seen = histogram(np.maximum(values, -1.0))
    low, high = find_range(seen, Method.MSE, symmetric=False)
    assert 3.5 < high < 7.0
    assert low == pytest.approx(-1.0, rel=0.02)
    low, high = find_range(seen, Method.MSE, symmetric=True)
    assert 3.5 < high < 7.0
    assert low == -high


def test_zeros_after_a_relu_do_not_sway_the_entropy() -> None:
    values = np.abs(np.random.default_rng(3).normal(0.0, 1.0, 200_000))
    alone = find_range(histogram(values), Method.ENTROPY, symmetric=False)
    among = find_range(histogram(np.append(values, np.zeros(2_000_000))), Method.ENTROPY, symmetric=False)
    assert among == pytest.approx(alone, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(centre=st.floats(-50, 50), spread=st.floats(0.0, 20.0), symmetric=st.booleans(), method=st.sampled_from(Method))
def test_zero_lies_in_every_range_and_no_range_is_wider_than_what_was_seen(
    centre: float, spread: float, symmetric: bool, method: Method
) -> None:
    values = centre + spread * np.random.default_rng(0).standard_normal(2_000)
    seen = Histogram(
        float(values.min()),
        float(max(values.max(), values.min() + 1e-6)),
        np.histogram(values, BINS, (values.min(), max(values.max(), values.min() + 1e-6)))[0],
    )
    low, high = find_range(seen, method, symmetric=symmetric)
    assert low <= 0.0 <= high
    widest = max(abs(seen.low), abs(seen.high)) if symmetric else None
    assert high <= (widest if widest is not None else max(seen.high, 0.0)) + 1e-9
    assert low >= (-widest if widest is not None else min(seen.low, 0.0)) - 1e-9
    if symmetric:
        assert low == -high


def test_what_is_observed_is_what_the_graph_computes(tmp_path: Path) -> None:
    model, _ = fp32(tmp_path)
    windows = spoken(40)  # more than one batch
    seen = observe(model, {*activations(model), "log_mel"}, windows)
    assert seen["log_mel"].low == windows.min()
    assert seen["log_mel"].high == windows.max()
    assert seen["relu"].low == 0.0
    assert seen["relu"].counts.sum() == 40 * 4 * 32 * 150
    assert seen["linear"].low < 0.0 or seen["linear"].high > 0.0
