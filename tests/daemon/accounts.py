"""Account of the audio in the events of a daemon: read = processed + dropped, to the sample.

Times in events are whole milliseconds. A microphone at 16 kHz brings 0.2 s at a time and loses as much, so that here
every time is exact.
"""

from __future__ import annotations

from typing import Any

import pytest

WINDOW_SECONDS = 3.0
HOP_SECONDS = 0.5


def assert_accounted(events: list[dict[str, Any]], source: str = "mic", *, rounding_s: float = 1e-6) -> float:
    """Checks the readings and health of a source. Returns the seconds that its readings say were dropped.

    Args:
        events: in their order.
        source: whose.
        rounding_s: how far times may be off, for devices whose audio is resampled: a few milliseconds.
    """
    of_source = [event for event in events if event.get("source") == source]
    for health in (event for event in of_source if event["type"] == "health"):
        assert health["read_s"] == pytest.approx(health["processed_s"] + health["dropped_s"], abs=rounding_s)
    readings = [event for event in of_source if event["type"] == "reading"]
    numbers = [int(reading["id"].rpartition("/")[2]) for reading in readings]
    assert numbers == [number + index for index, number in enumerate(numbers[:1] * len(numbers))]
    dropped, end_s = 0.0, float("inf")
    for reading in readings:
        opened_anew = reading["end_s"] <= end_s
        heard_before, heard = (0.0, WINDOW_SECONDS) if opened_anew else (end_s, HOP_SECONDS)
        assert reading["end_s"] == pytest.approx(heard_before + heard + reading["dropped_s"], abs=rounding_s)
        end_s = reading["end_s"]
        dropped += reading["dropped_s"]
    return round(dropped, 3)


def newest_dbfs(events: list[dict[str, Any]], source: str) -> float:
    """Returns the level of a source's newest reading, dBFS."""
    return float([event for event in events if event["type"] == "reading" and event["source"] == source][-1]["dbfs"])
