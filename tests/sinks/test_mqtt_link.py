"""Backoff between attempts to connect."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from edge_sser.sinks.mqtt.link import STABLE_SECONDS, Backoff

SECONDS = st.floats(min_value=0.05, max_value=3600.0)


@given(st.tuples(SECONDS, SECONDS).map(sorted), st.integers(min_value=0, max_value=2000), st.randoms())
def test_every_wait_is_at_least_half_of_one_that_doubles_up_to_the_longest(
    bounds: list[float], before: int, chance: random.Random
) -> None:
    shortest, longest = bounds
    backoff = Backoff(shortest, longest, chance)
    for _ in range(before):
        backoff.wait_seconds(0.0)
    full = min(longest, shortest * 2.0 ** min(before, 32))
    assert full * 0.5 <= backoff.wait_seconds(0.0) <= full


def test_only_a_connection_that_held_starts_it_over() -> None:
    backoff = Backoff(1.0, 60.0)
    for _ in range(10):
        backoff.wait_seconds(0.0)
    assert backoff.wait_seconds(STABLE_SECONDS - 0.1) >= 30.0
    assert backoff.wait_seconds(STABLE_SECONDS) <= 1.0
    assert 1.0 <= backoff.wait_seconds(0.0) <= 2.0


def test_a_thousand_devices_do_not_come_back_at_once() -> None:
    waits = [Backoff(1.0, 60.0).wait_seconds(0.0) for _ in range(1000)]
    tenths = [sum(0.5 + start / 20 <= wait < 0.5 + (start + 1) / 20 for wait in waits) for start in range(10)]
    assert max(tenths) < 200  # of the 100 that are expected in each twentieth of a second
