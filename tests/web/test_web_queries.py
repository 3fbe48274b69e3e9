"""Curves in bins and episodes as the page asks for them, beside the rows that they come from."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import mean

import pytest
from history_days import DAY, write_days
from web_rig import Device

from edge_sser.events import Level
from edge_sser.history.reader import HistoryReader
from edge_sser.web.live import CURVE_SECONDS, LiveFeed
from edge_sser.web.queries import Span, curves, episodes, episodes_csv

START = 1_767_225_600  # a midnight, UTC


@pytest.fixture
def reader(tmp_path: Path) -> HistoryReader:
    write_days(tmp_path / "history.sqlite", start=START, days=2, sources=2, gap=(3, 4))
    return HistoryReader(tmp_path / "history.sqlite")


@pytest.mark.parametrize("bin_seconds", [60, 900, 10_800])
def test_bins_sum_up_their_minutes(reader: HistoryReader, bin_seconds: int) -> None:
    since = START + 5 * 60  # bins begin where the span does
    span = Span(since, START + DAY)
    found = curves(reader, span, bin_seconds)
    assert list(found) == ["cab/source-1", "cab/source-2"]
    minutes = reader.minutes(span.since, span.until, "source-2")
    for number, average, highest, speech, *seconds in found["cab/source-2"]:
        inside = [each for each in minutes if (each.minute - since) // bin_seconds == number]
        scored = [each.mean for each in inside if each.mean is not None]
        assert average == (pytest.approx(mean(scored), abs=6e-4) if scored else None)
        assert highest == (pytest.approx(max(each.max or 0 for each in inside), abs=6e-4) if scored else None)
        assert speech == pytest.approx(mean(each.speech for each in inside), abs=6e-4)
        for level, found_s in zip(Level, seconds, strict=True):
            assert found_s == pytest.approx(sum(getattr(each, f"{level.value}_s") for each in inside), abs=6e-4)
    numbers = [each[0] for each in found["cab/source-2"]]
    expected = {(each.minute - since) // bin_seconds for each in minutes}
    assert numbers == sorted(expected)
    if bin_seconds < 3600:
        assert len(numbers) < math.ceil((DAY - 300) / bin_seconds)  # nobody listened between three and four


def test_sources_are_chosen(reader: HistoryReader) -> None:
    assert list(curves(reader, Span(START, START + DAY, frozenset(["cab/source-2"])), 900)) == ["cab/source-2"]
    assert curves(reader, Span(START, START + DAY, frozenset(["cab/nobody"])), 900) == {}


def test_episodes_come_newest_first_and_by_source_and_level(reader: HistoryReader) -> None:
    span = Span(START, START + 2 * DAY)
    found = episodes(reader, span, None)
    assert len(found) == 4
    assert [each.started for each in found] == sorted((each.started for each in found), reverse=True)
    only = episodes(reader, Span(START, START + DAY, frozenset(["cab/source-1"])), Level.HIGH)
    assert [each.id for each in only] == ["cab/source-1/0"]
    lines = episodes_csv(only).splitlines()
    assert lines[0].startswith("started,ended,duration_s,level,peak,mean,node,source")
    assert lines[1].startswith("2026-01-01T12:30:00Z,2026-01-01T12:31:35Z,95.0,high,0.93,0.81,cab,source-1")


async def next_data(messages: AsyncIterator[str]) -> tuple[str, dict]:
    message = await asyncio.wait_for(messages.__anext__(), 30)
    fields = dict(line.split(": ", 1) for line in message.strip().splitlines())
    return fields["event"], json.loads(fields["data"])


def test_a_page_gets_the_curve_so_far_and_then_what_is_new(tmp_path: Path) -> None:
    device = Device(tmp_path)

    async def follow() -> None:
        feed = LiveFeed(lambda: device.state / "live.json", lambda: True)
        following = asyncio.create_task(feed.run())
        for stress in (0.1, 0.2):
            time.sleep(0.002)  # events have milliseconds
            device.hear(stress, Level.LOW)
            feed._look()
        page = feed.messages()
        event, data = await next_data(page)
        assert event == "start"
        assert [point[1] for point in data["curves"]["cab/source-1"]] == [0.1, 0.2]
        device.hear(0.9, Level.HIGH)
        while not data["sources"] or data["sources"][0]["reading"]["level"] != "high":
            event, data = await next_data(page)
        assert event == "now"
        assert data["running"]
        (device.state / "live.json").unlink()
        while data["running"]:
            _, data = await next_data(page)
        assert data["sources"] == []
        following.cancel()

    asyncio.run(follow())


def test_a_page_that_does_not_read_is_given_up_and_the_curve_stays_short(tmp_path: Path) -> None:
    device = Device(tmp_path)

    async def follow() -> None:
        feed = LiveFeed(lambda: device.state / "live.json", lambda: True)
        page = feed.messages()
        await next_data(page)
        for _ in range(30):
            feed._tell("event: now\ndata: {}\n\n")
        with pytest.raises(StopAsyncIteration):
            await page.__anext__()
        assert not feed.full
        reading = {"ts": "2026-01-01T00:00:00.000Z", "stress": 0.5, "stress_rolling": 0.5, "speech_ratio": 1, "dbfs": 0}
        for minute in range(30):
            feed._add("cab/desk", {**reading, "ts": f"2026-01-01T00:{minute:02d}:00.000Z"})
        curve = feed._all_curves()["cab/desk"]
        assert curve[-1][0] - curve[0][0] == CURVE_SECONDS

    asyncio.run(follow())
