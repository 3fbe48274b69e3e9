"""The interface for Python programs: the events of `analyze`, whatever the chunks, formats and rates."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from models import write_model

import edge_sser
from edge_sser import (
    AudioInputError,
    EdgeSserError,
    Episode,
    Event,
    Health,
    Level,
    Model,
    Phase,
    Reading,
    Settings,
    SettingsError,
    SourceError,
    StressMonitor,
    api,
    log_mel,
    to_json,
)
from edge_sser.settings.schema import RollingSettings

RATE = 16_000
START = 1_767_323_045.0


def monitor_of(model: Model, **keywords: object) -> StressMonitor:
    return StressMonitor(model=model, started_at=START, **keywords)  # type: ignore[arg-type]


def events_of(monitor: StressMonitor, samples: np.ndarray, rate: int, cuts: tuple[int, ...] = ()) -> list[Event]:
    """Events of a stream that is cut at some samples."""
    events = []
    for chunk in np.split(samples, sorted(cuts)):
        events += monitor.push(chunk, rate)
    return events + monitor.flush()


@pytest.fixture(scope="module")
def shipped() -> Model:
    return Model.load()


@pytest.fixture(scope="module")
def talk(samples: np.ndarray) -> np.ndarray:
    return samples[: 30 * RATE]


def test_the_examples_in_the_documentation_hold() -> None:
    result = doctest.testmod(api)
    assert result.attempted > 5
    assert result.failed == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 192_000])
@pytest.mark.parametrize("layout", ["float32", "float64", "int16", "stereo", "column"])
def test_chunks_of_any_size_change_no_event(model: Model, talk: np.ndarray, rate: int, layout: str) -> None:
    sound = soxr.resample(talk[: 8 * RATE], RATE, rate)
    sound = np.clip(sound, -1.0, 1.0)
    sound = {
        "float32": sound,
        "float64": sound.astype(np.float64),
        "int16": (sound * 32_767).astype(np.int16),
        "stereo": np.stack((sound, sound * np.float32(0.5)), axis=1),
        "column": sound[:, np.newaxis],
    }[layout]
    monitor = monitor_of(model)
    whole = events_of(monitor, sound, rate)
    assert sum(isinstance(event, Reading) for event in whole) == 11

    @settings(max_examples=5)
    @given(st.lists(st.integers(0, len(sound)), max_size=12))
    def law(cuts: list[int]) -> None:
        assert events_of(monitor, sound, rate, tuple(cuts)) == whole

    law()


def test_chunks_of_a_few_samples_too(model: Model, talk: np.ndarray) -> None:
    sound = talk[: 4 * RATE]
    monitor = monitor_of(model)
    assert events_of(monitor, sound, RATE, tuple(range(0, len(sound), 37))) == events_of(monitor, sound, RATE)


def test_live_events_differ_from_those_of_a_recording_in_time_and_latency_alone(model: Model, talk: np.ndarray) -> None:
    recorded = events_of(monitor_of(model), talk, RATE)
    live = events_of(StressMonitor(model=model), talk, RATE, (1_600, 48_000))
    assert {event.latency_ms for event in recorded if isinstance(event, Reading)} == {None}
    assert all(event.latency_ms >= 0 for event in live if isinstance(event, Reading))

    def timeless(event: Event) -> Event:
        if isinstance(event, Reading):
            return replace(event, ts="", latency_ms=None)
        return replace(event, ts="", id="") if isinstance(event, Episode) else replace(event, ts="")

    assert [timeless(event) for event in live] == [timeless(event) for event in recorded]
    age = datetime.now(timezone.utc) - datetime.fromisoformat(live[0].ts.replace("Z", "+00:00"))
    assert 0 <= age.total_seconds() < 300


def test_the_events_are_those_of_the_command(shipped: Model, speech: Path, samples: np.ndarray) -> None:
    command = [sys.executable, "-m", "edge_sser", "analyze", str(speech), "--node", "n"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    monitor = StressMonitor(Settings(node="n"), model=shipped, source=speech.stem)
    pushed = [json.loads(to_json(each)) for each in events_of(monitor, samples, RATE) if not isinstance(each, Health)]
    printed = [json.loads(line) for line in lines]
    for each in (*pushed, *printed):
        del each["ts"]
        each.pop("latency_ms", None)
        if each["type"] == "episode":
            del each["id"]
    assert any(each["type"] == "episode" for each in printed)
    assert pushed == printed
    analysis = monitor.analyze(speech)
    assert [row["stress"] for row in analysis.readings] == [
        each["stress"] for each in printed if each["type"] == "reading"
    ]
    assert [row["phase"] for row in analysis.episodes] == ["end"]


def test_a_recording_of_another_rate_gives_the_readings_of_its_samples(
    model: Model, talk: np.ndarray, tmp_path: Path
) -> None:
    # The filter of the resampler holds some samples back, and the last window needs them.
    sound = soxr.resample(talk[: 5 * RATE], RATE, 44_100)
    sound = np.stack((sound, sound / 2), axis=1)
    soundfile.write(tmp_path / "audio.wav", sound, 44_100, subtype="FLOAT")
    monitor = monitor_of(model)
    rows = monitor.analyze(tmp_path / "audio.wav").readings
    pushed = [json.loads(to_json(each)) for each in events_of(monitor, sound, 44_100) if isinstance(each, Reading)]
    assert (len(rows), rows) == (5, pushed)


def test_analyze_leaves_the_stream_alone(shipped: Model, speech: Path, talk: np.ndarray) -> None:
    monitor = monitor_of(shipped)
    events = monitor.push(talk[:100_000], RATE)
    monitor.analyze(str(speech))
    events += monitor.push(talk[100_000:], RATE) + monitor.flush()
    assert events == events_of(monitor, talk, RATE)


def test_a_recording_shorter_than_a_window_is_refused(shipped: Model, tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(2 * RATE, dtype=np.float32), RATE)
    with pytest.raises(SourceError, match=r"short\.wav is 2\.0 s long, shorter than the 3 s window"):
        monitor_of(shipped).analyze(path)


def test_words_of_events_print_as_their_values() -> None:
    assert f"{Level.ELEVATED} {Phase.START}" == "elevated start"


def test_reset_forgets_and_flush_ends_an_episode(shipped: Model, samples: np.ndarray) -> None:
    monitor = monitor_of(shipped)
    events = monitor.push(samples, RATE)
    started = [event for event in events if isinstance(event, Episode) and event.phase is Phase.START]
    assert started
    assert monitor.level is not None
    monitor.reset()
    assert monitor.level is None
    assert monitor.flush() == []
    assert events_of(monitor, samples, RATE)[: len(events)] == events


@pytest.mark.parametrize(
    ("wrong", "rate", "message"),
    [
        (np.full(9, np.nan, np.float32), RATE, "NaN or infinity: replace them"),
        (np.full(9, np.inf), RATE, "NaN or infinity"),
        (np.full(9, 20_000.0), RATE, r"reach 20000, expected -1 to 1: divide them by 32768"),
        (np.zeros(9, np.int32), RATE, r"int32, expected floats .* by 2\*\*31"),
        (np.zeros(9, np.uint8), RATE, "uint8"),
        (np.zeros(9, bool), RATE, "bool"),
        (np.zeros(9, np.complex64), RATE, "complex64"),
        (b"\0\0" * 9, RATE, r"numpy.frombuffer\(data, dtype=numpy.int16\)"),
        ("talk.wav", RATE, "expected floats"),
        ([[0.0, 0.0], [0.0]], RATE, "cannot be made an array"),
        (np.zeros((2, RATE), np.float32), RATE, r"\(2, 16000\), expected \[n\] or \[n, channels\]: pass samples.T"),
        (np.zeros((4, 0), np.float32), RATE, "shape"),
        (np.zeros((2, 2, 2), np.float32), RATE, "shape"),
        (np.float32(0.0), RATE, "shape"),
        (np.zeros(9, np.float32), 0, "8000 to 192000"),
        (np.zeros(9, np.float32), 7_999, "8000 to 192000"),
        (np.zeros(9, np.float32), 200_000, "8000 to 192000"),
        (np.zeros(9, np.float32), 16_000.5, "rate is 16000.5"),
        (np.zeros(9, np.float32), "16000", "rate is '16000'"),
        (np.zeros(9, np.float32), 44_100, "from 16000 to 44100 Hz within a stream: call flush"),
        (np.zeros((9, 2), np.float32), RATE, "from 1 to 2 within a stream: call flush"),
    ],
)
def test_wrong_audio_is_refused_with_a_remedy_and_leaves_the_stream_as_it_was(
    model: Model, talk: np.ndarray, wrong: object, rate: int, message: str
) -> None:
    monitor = monitor_of(model)
    events = monitor.push(talk[:50_000], RATE)
    with pytest.raises(AudioInputError, match=message) as caught:
        monitor.push(wrong, rate)  # type: ignore[arg-type]
    assert isinstance(caught.value, (ValueError, SourceError, EdgeSserError))
    events += monitor.push(talk[50_000:], RATE) + monitor.flush()
    assert events == events_of(monitor, talk, RATE)


def test_another_rate_is_another_stream(model: Model, talk: np.ndarray) -> None:
    monitor = monitor_of(model)
    assert monitor.push([], RATE) == []  # no stream yet
    monitor.push(talk, RATE)
    monitor.flush()
    assert events_of(monitor, soxr.resample(talk, RATE, 48_000), 48_000)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sensitivity": "loud"}, "sensitivity is 'loud': .*'strict'"),
        ({"hop_seconds": 0.25}, "multiple of 0.1"),
        ({"source": "My Desk"}, "source is 'My Desk'"),
        ({"channel": -1}, "channel is -1"),
        ({"channel": "left"}, "channel is 'left'"),
        ({"settings": Settings(rolling=RollingSettings(high=0.0001))}, "rolling.high"),
        ({"settings": Path("/nowhere/a.toml")}, "no such settings file"),
        ({"settings": {"node": "n"}}, "a dict: give the path of a file, or a Settings object"),
    ],
)
def test_wrong_settings_are_refused(model: Model, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        monitor_of(model, **keywords)


def test_settings_come_from_what_is_given_alone(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text('node = "cab"\n[rolling]\nsensitivity = "quick"\n[mqtt]\nurl = "mqtt://h"\n')
    monkeypatch.setenv("EDGE_SSER_CONFIG", str(file))
    monkeypatch.setenv("EDGE_SSER_NODE", "environment")
    assert StressMonitor(model=model).settings.node == ""
    monitor = StressMonitor(file, model=model, sensitivity="strict")
    assert (monitor.settings.node, monitor.settings.rolling.sensitivity.value) == ("cab", "strict")
    assert monitor.settings.mqtt is None


def test_a_closed_monitor_says_so_and_leaves_a_shared_model_open(model: Model, talk: np.ndarray) -> None:
    with StressMonitor(model=model) as monitor:
        monitor.push(talk, RATE)
    monitor.close()
    with pytest.raises(EdgeSserError, match="closed: make a new one"):
        monitor.push(talk, RATE)
    assert events_of(StressMonitor(model=model), talk, RATE)


def test_a_model_file_and_a_channel_can_be_chosen(tmp_path: Path, talk: np.ndarray) -> None:
    path = write_model(tmp_path / "own.onnx")
    left = np.stack((talk, np.zeros_like(talk)), axis=1)
    sound = tmp_path / "left.wav"
    soundfile.write(sound, left, RATE)
    first, second = (StressMonitor(model=path, channel=channel) for channel in (0, 1))
    assert max(row["dbfs"] for row in first.analyze(sound).readings) > -60
    assert max(row["dbfs"] for row in second.analyze(sound).readings) == -120
    for samples, has in ((left, "2 channels, numbered 0 to 1"), (talk, "1 channel, number 0")):
        with pytest.raises(AudioInputError, match=f"{has}: there is no channel 2"):
            StressMonitor(model=path, channel=2).push(samples, RATE)
    assert StressMonitor(model=path, channel=np.int64(1)).push(left, RATE)
    with pytest.raises(SourceError, match="does not exist"):
        first.analyze(tmp_path / "none.wav")


def test_a_window_of_features_can_be_scored(shipped: Model, talk: np.ndarray) -> None:
    score = shipped.score(log_mel(talk[-3 * RATE :]))
    assert 0.0 <= score.stress <= 1.0
    assert float(score.emotions.sum()) == pytest.approx(1.0, abs=1e-5)


def test_importing_costs_nothing_and_everything_public_is_there() -> None:
    code = (
        "import sys, edge_sser; heavy = {'numpy', 'pydantic', 'onnxruntime', 'torch', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(edge_sser.__all__) <= set(dir(edge_sser))\n"
        "for name in edge_sser.__all__: getattr(edge_sser, name)\n"
        "assert 'torch' not in sys.modules and 'typer' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'Monitor'"):
        edge_sser.Monitor  # noqa: B018
