"""The history as a sink: when it writes, and what it does with disks and files that do not take it."""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mqtt_rig import STATUS, emit, episode, eventually, health, reading

from edge_sser.errors import HistoryError, SinkError
from edge_sser.events import Phase, timestamp
from edge_sser.history.reader import HistoryReader
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import HistorySettings
from edge_sser.sinks.history import HistorySink
from edge_sser.sinks.open import ConfiguredSinks

Open = Callable[..., HistorySink]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr("edge_sser.sinks.history.WRITE_SECONDS", 0.02)
    return tmp_path / "history.sqlite"


@pytest.fixture
def start(path: Path) -> Iterator[Open]:
    sinks: list[HistorySink] = []

    def start(place: Path = path, *, commit_seconds: float = 0.05, **options: Any) -> HistorySink:
        sinks.append(
            HistorySink(HistorySettings(path=place, keep_days=36_500, **options), commit_seconds=commit_seconds)
        )
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.close()


def try_reader(path: Path) -> HistoryReader | None:
    try:
        return HistoryReader(path)
    except HistoryError:
        return None


def test_minutes_wait_for_their_time_and_episodes_do_not(path: Path, start: Open) -> None:
    sink = start(commit_seconds=1000.0)
    reader = eventually(lambda: try_reader(path), "the file is made")
    emit(sink, reading(1))
    live = eventually(lambda: (live := reader.live()) and live.sources and live, "the live file has the reading")
    assert live.sources[0].reading["id"] == reading(1).id
    assert reader.minutes(0, 2e9) == []
    emit(sink, replace(episode(1), phase=Phase.START))
    assert eventually(lambda: reader.episodes(0, 2e9), "the episode is written")[0].ended is None
    assert len(reader.minutes(0, 2e9)) == 1  # in the same transaction
    emit(sink, health())
    sink.close()
    assert len(reader.health(0, 2e9)) == 1
    assert reader.live() is None
    with pytest.raises(SinkError, match="closed"):
        emit(sink, reading(2))
    sink.close()


def test_readings_only_when_asked_for(path: Path, start: Open) -> None:
    for readings in (False, True):
        sink = start(readings=readings)
        emit(sink, reading(1))
        sink.close()
        assert len(HistoryReader(path).readings(0, 2e9)) == readings


@pytest.mark.parametrize("content", [b"my notes\n" * 100, None])
def test_a_file_that_cannot_be_used_is_told_once_and_does_not_end_listening(
    content: bytes | None, path: Path, start: Open, caplog: pytest.LogCaptureFixture
) -> None:
    place = path if content else Path("/proc/edge-sser/history.sqlite")
    if content:
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "edge_sser.history"):
        sink = start(place)
        eventually(lambda: sink.trouble, "the fault is told")
        emit(sink, reading(1))
        emit(sink, replace(episode(1), phase=Phase.START))
        threading.Event().wait(0.3)  # several attempts
    assert sink.trouble.startswith(f"the history cannot be written: {place}: ")
    (told,) = caplog.messages
    remedy = "name another path" if content else "make room, or set history.path to a place that this user may write"
    assert told.endswith(f": {remedy}; trying again")
    if content:
        assert path.read_bytes() == content
        path.unlink()
        eventually(lambda: not sink.trouble, "the file is written again")
        sink.close()
        assert len(HistoryReader(path).episodes(0, 2e9)) == 1  # nothing was lost meanwhile


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    path: Path, start: Open, caplog: pytest.LogCaptureFixture
) -> None:
    sink = start()
    emit(sink, reading(1))
    sink.close()
    path.write_bytes(path.read_bytes()[:5000])
    with caplog.at_level(logging.WARNING, "edge_sser.history"):
        sink = start()
        emit(sink, reading(100))
        sink.close()
    assert len(HistoryReader(path).minutes(0, 2e9)) == 1
    assert "kept as" in caplog.text
    assert path.with_name("history.sqlite.damaged").exists()


def test_a_disk_that_is_full_loses_nothing(path: Path, start: Open) -> None:
    """A limit on the size of files stands for the disk."""
    sink = start(readings=True)
    reader = eventually(lambda: try_reader(path), "the file is made")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        numbers = iter(range(100_000))
        while not sink.trouble:
            for _ in range(100):
                emit(sink, replace(reading(0), ts=timestamp(1_767_323_045.0 + next(numbers))))
            threading.Event().wait(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    eventually(lambda: not sink.trouble, "the disk has room again")
    sink.close()
    assert len(reader.readings(0, 2e9)) == next(numbers)


def test_the_table_of_the_settings_opens_it(path: Path) -> None:
    for enabled in (True, False):
        path.unlink(missing_ok=True)
        settings = Settings(history=HistorySettings(path=path, enabled=enabled))
        sinks = ConfiguredSinks(settings, status=lambda: STATUS, sources=["desk"])
        for sink in sinks.sinks:
            emit(sink, reading(1))
        sinks.close()
        assert path.exists() == enabled
