"""Output of `analyze` for a person, and the progress of long work."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from edge_sser.commands import progress as progress_module
from edge_sser.commands.plot import TICKS_HZ, Plot
from edge_sser.commands.progress import progress
from edge_sser.commands.summary import Summary
from edge_sser.events import BaselineState, Level, Reading
from edge_sser.pipeline.features import FEATURES
from edge_sser.pipeline.rolling import Thresholds


def readings(count: int, **changes) -> list[Reading]:
    return [
        Reading(
            **(
                {
                    "id": "", "node": "cab", "source": "talk", "ts": "2026-01-02T03:04:05.678Z", "start_s": number / 2,
                    "end_s": number / 2 + 3, "speech_ratio": 0.5, "stress": 0.1, "stress_rolling": 0.1,
                    "level": Level.LOW, "confidence": 0.8, "dbfs": -30.0, "clipped": False, "latency_ms": None,
                    "dropped_s": 0.0, "baseline": BaselineState.OFF, "baseline_shift": None, "model": "m",
                }
                | changes
            )
        )
        for number in range(count)
    ]  # fmt: skip


def test_the_summary_has_length_speech_levels_episodes_loudness_and_what_was_wrong(call, speech, model, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[rolling]\nelevated = 0.1\n")  # the toy model is soon undecided, and never sure
    result = call("analyze", speech, "--model", model, "--config", config, "--format", "text")
    lines = call("analyze", speech, "--model", model, "--config", config)
    assert result.status == 0
    assert "{" not in result.out
    (episode, *others) = [event for event in lines.of_type("episode") if event["phase"] == "end"]
    for part in (
        str(speech),
        "length    0:00:52.8, speech",
        "dBFS (median)",
        "levels    low ",
        f"episodes  {len(others) + 1}",
    ):
        assert part in result.out
    assert f"{episode['duration_s']:6.1f} s  peak {episode['peak']:.2f}" in result.out
    assert "wrong" not in result.out


def test_levels_are_shares_of_the_recording_and_faults_are_named():
    summary = Summary(Path("talk.flac"), 0.5)
    summary.add([*readings(6), *readings(3, level=Level.HIGH, clipped=True), *readings(1, level=None)])
    text = summary.text(12.0)
    assert "low 60%, elevated 0%, high 30%, no speech yet 10%" in text
    assert "30% of the windows reach full scale" in text


def test_silence_is_said_to_be_silence(call, write_audio, model):
    result = call("analyze", write_audio(np.zeros(16_000 * 15)), "--model", model, "--format", "text")
    assert "no speech was found" in result.out
    assert "silent from" in result.out


def test_a_wrong_format_names_those_there_are(call, speech):
    call("analyze", speech, "--format", "xml").refuses(2, "auto, jsonl, csv, text")


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    with progress("index", 4) as work:
        work.advance()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    with progress("index") as work:
        work.advance()
        work.expect(4)
        work.advance()
    first, second = capsys.readouterr().err.splitlines()
    assert first == "edge-sser: index: 0 min so far"
    assert re.fullmatch(r"edge-sser: index: 50%, about \d+ min left", second)


@pytest.mark.parametrize("hertz", [300, 4000])
def test_the_plot_has_thresholds_hertz_and_a_legend_that_hides_nothing(monkeypatch, tmp_path, hertz):
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    plot = Plot()
    tone = np.sin(2 * np.pi * hertz * np.arange(16_000 * 4) / 16_000).astype(np.float32)
    from edge_sser.audio.source import AudioBlock

    plot.push(AudioBlock(tone), readings(3))
    plot.draw(tmp_path / "plot.png", "talk", Thresholds(elevated=0.4, high=0.9, hysteresis=0.1))
    sound, *_, stress = drawn[0].axes
    band = np.asarray(sound.images[0].get_array())[:, 20].argmax()
    tick = dict(zip(TICKS_HZ, sound.get_yticks(), strict=True))[hertz]
    assert tick == pytest.approx(band + 0.5, abs=0.6)
    assert sound.get_ylabel() == "Hz"
    assert {line.get_ydata()[0] for line in stress.lines if line.get_linestyle() == "--"} == {0.4, 0.9}
    drawn[0].draw_without_rendering()
    assert stress.get_legend().get_window_extent().y1 < stress.get_window_extent().y0
    assert FEATURES.bands == len(sound.images[0].get_array())
