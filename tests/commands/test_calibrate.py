"""`edge-sser calibrate`: a baseline and settings for one place, from ordinary speech in it."""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from models import changed_card, write_model
from streams import make_monitor, play

from edge_sser.audio.source import AudioBlock
from edge_sser.commands.scored import Material, check_calm, evidence, score_recordings
from edge_sser.commands.threshold import choose, rate_interval, replay, with_threshold
from edge_sser.errors import SourceError
from edge_sser.events import Episode, Reading
from edge_sser.model.card import OperatingPoint
from edge_sser.model.model import Model
from edge_sser.monitor.baselines import baseline_path, load_baseline
from edge_sser.monitor.monitor import STRESS_DIGITS
from edge_sser.monitor.operating import DEFAULT_ELEVATED
from edge_sser.pipeline.baseline import Baseline
from edge_sser.settings.load import load_settings
from edge_sser.settings.schema import Settings

RATE = 16_000
TWICE = 2  # the recording that ships has less than 40 s of speech, and 60 s are needed


@pytest.fixture(scope="module")
def talk(tmp_path_factory, speech_samples):
    """Ordinary speech of a minute and more, with a livelier part in it."""
    path = tmp_path_factory.mktemp("talk") / "talk.flac"
    soundfile.write(path, np.tile(speech_samples, TWICE), RATE)
    return path


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """A model to which the livelier part sounds stressed: an episode in each repetition."""
    path = tmp_path_factory.mktemp("lively") / "lively.onnx"
    return Model.load(write_model(path, slope=0.9, centre_db=46.0))


@pytest.fixture(scope="module")
def material(talk, lively):
    """The same speech, scored."""
    (material,) = score_recordings([talk], lively, Settings(), None)
    return material


@pytest.fixture(scope="module")
def baseline(material):
    """Declared from the same speech."""
    baseline = Baseline()
    baseline.declare(*evidence([material]))
    return baseline


@pytest.fixture
def out(tmp_path):
    return tmp_path / "site.toml"


@pytest.fixture
def nothing_written(out):
    """Neither settings nor a baseline nor a temporary file exist after the test."""
    before = set(out.parent.rglob("*"))
    yield
    new = {path for path in set(out.parent.rglob("*")) - before if path.is_file()}
    made = {path for path in new if path.suffix in (".json", ".part", ".png")}
    assert not made
    assert not out.exists()


def budgeted(budget: float) -> Settings:
    return Settings.model_validate({"rolling": {"false_alarms_per_hour": budget}})


def monitored(talk: Path, model: Model, settings: Settings, baseline: Baseline) -> tuple[list[Reading], list[float]]:
    """Readings of the monitor, and the times at which it declared episodes."""
    samples, _ = soundfile.read(talk, dtype="float32")
    monitor = make_monitor(model, baseline=Baseline.from_dict(baseline.to_dict()), settings=settings)
    events = play(monitor, [AudioBlock(samples)])
    starts = [event.declared_s for event in events if isinstance(event, Episode) and event.phase == "start"]
    return [event for event in events if isinstance(event, Reading)], starts


@pytest.mark.parametrize("elevated", [0.05, 0.35, 0.9])
def test_a_replay_is_what_the_monitor_does(talk, material, lively, baseline, elevated):
    settings = with_threshold(Settings(), elevated)
    replayed = replay(material, settings, lively.card, baseline)
    readings, starts = monitored(talk, lively, settings, baseline)
    rounded = [None if stress is None else round(stress, STRESS_DIGITS) for stress in replayed.stress]
    assert rounded == [reading.stress_rolling for reading in readings]
    assert [start / RATE for start in replayed.starts] == starts
    assert len(starts) == (0 if elevated > 0.8 else TWICE)


def test_a_hysteresis_of_the_settings_leaves_out_the_thresholds_below_it(call, talk, lively, out, tmp_path):
    config = tmp_path / "before.toml"
    config.write_text("[rolling]\nhysteresis = 0.08\n")
    result = call("calibrate", talk, "--out", out, "--model", lively.path, "--config", config)
    assert (result.status, result.err) == (0, "")
    assert load_settings(out, environ={}).settings.rolling.hysteresis == 0.08


def test_the_settings_are_valid_and_keep_to_the_budget(call, talk, lively, out):
    result = call("calibrate", talk, "--out", out, "--model", lively.path)
    assert (result.status, result.err) == (0, "")
    assert call("config", "check", out).status == 0
    settings = load_settings(out, environ={}).settings
    (source,) = settings.source
    assert (source.name, source.device) == ("talk", "mic")
    assert settings.model.path == lively.path
    assert settings.rolling.elevated > DEFAULT_ELEVATED
    saved = load_baseline("talk")
    assert saved.baseline.declared
    assert saved.model == lively.label
    assert monitored(talk, lively, settings, saved.baseline)[1] == []
    assert {path.name for path in out.parent.iterdir()} == {out.name, "home"}


def test_the_report_says_how_sure_it_is(call, talk, model, out):
    text = call("calibrate", talk, "--out", out, "--model", model).out
    minutes = soundfile.info(talk).duration / 60.0
    most = 60.0 * -math.log(0.025) / minutes  # without an episode: exp(-rate) = 0.025
    assert f"0 episodes in {minutes:.1f} minutes of calm sound: at most {most:.3g} an hour (95 %)" in text
    assert "1 an hour takes 221 minutes of calm sound without an episode" in text
    assert re.search(r"^baseline +talk: shift [+-]\d\.\d\d", text, re.MULTILINE)
    assert f"edge-sser listen --config {out}" in text


def test_a_larger_budget_never_has_a_higher_threshold(material, lively, baseline):
    material = replace(material, samples=2 * material.samples)  # and silence, so that the budgets differ
    chosen = [choose([material], budgeted(each), lively.card, baseline).trial for each in (0.25, 1, 40, 60)]
    thresholds = [trial.elevated for trial in chosen]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > thresholds[-1]
    hours = material.seconds / 3600.0
    assert all(trial.episodes <= budget * hours for trial, budget in zip(chosen, (0.25, 1, 40, 60), strict=True))


def points(*thresholds: float) -> tuple[OperatingPoint, ...]:
    return tuple(
        OperatingPoint(
            baseline="declared",
            false_alarms_per_hour=budget,
            threshold=threshold,
            found=0.8,
            delay_median_s=10.0,
            delay_p95_s=20.0,
            hours=4.0,
            protocol="a test",
        )
        for budget, threshold in zip((1.0, 4.0), thresholds, strict=True)
    )


def test_the_threshold_of_the_card_stays_where_the_place_does_not_need_a_higher_one(call, talk, tmp_path, out):
    card = changed_card(operating_points=points(0.995, 0.99))
    model = write_model(tmp_path / "points.onnx", card=card)
    result = call("calibrate", talk, "--out", out, "--model", model)
    assert "of the model's card" in result.out
    rolling = load_settings(out, environ={}).settings.rolling
    assert (rolling.false_alarms_per_hour, rolling.elevated) == (1.0, None)


def test_the_threshold_of_the_card_is_raised_where_the_place_needs_it(call, talk, tmp_path, out):
    card = changed_card(operating_points=points(0.1, 0.05))
    model = write_model(tmp_path / "points.onnx", card=card, slope=0.9, centre_db=46.0)
    result = call("calibrate", talk, "--out", out, "--model", model)
    assert "raised for this place from 0.10" in result.out
    rolling = load_settings(out, environ={}).settings.rolling
    assert rolling.false_alarms_per_hour is None
    assert 0.1 < rolling.elevated < rolling.high < 1.0


def test_hours_without_an_episode_lower_the_threshold(material, lively, baseline):
    calm = [window for window in material.windows if window.end < 12 * RATE]
    hours = [replace(material, windows=calm, samples=12 * RATE)] * 1200  # 4 hours
    choice = choose(hours, Settings(), replace(lively.card, operating_points=points(0.9, 0.5)), baseline)
    assert choice.trial.elevated < 0.9
    assert choice.origin == "lowered for this place from 0.90"


def test_no_threshold_keeps_to_the_budget(material, lively):
    calmest = Baseline()
    calmest.declare([-3.1] * 600, [0.5] * 600)
    scored = [window for window in material.windows if window.score is not None]
    excited = [replace(window, score=replace(window.score, log_odds=5.0)) for window in scored]
    with pytest.raises(SourceError, match="no threshold keeps to 1 false"):
        choose([replace(material, windows=excited)], Settings(), lively.card, calmest)


@pytest.mark.parametrize(("count", "hours"), [(0, 1.0), (1, 1.0), (3, 0.05), (40, 12.0), (500, 2.0)])
def test_the_interval_is_the_exact_one_of_a_poisson_rate(count, hours):
    def at_most(mean: float, most: int) -> float:
        return sum(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(most + 1))

    low, high = rate_interval(count, hours)
    assert at_most(high * hours, count) == pytest.approx(0.025)
    if count:
        assert 1.0 - at_most(low * hours, count - 1) == pytest.approx(0.025)
    else:
        assert low == 0.0


def test_labelled_stressed_recordings_give_the_share_found(call, talk, lively, write_audio, speech_samples, out):
    calm = write_audio(speech_samples[: 10 * RATE], "calm.wav")
    loud = write_audio(np.tile(speech_samples[12 * RATE : 14 * RATE], 10), "loud.wav")
    result = call("calibrate", talk, "--stressed", loud, "--stressed", calm, "--out", out, "--model", lively.path)
    assert re.search(r"^found +1 of 2 stressed recordings, after \d+\.\d s \(median\)$", result.out, re.MULTILINE)


def test_a_plot(call, talk, model, out, tmp_path):
    pytest.importorskip("matplotlib", reason='pip install ".[plot]"')
    picture = tmp_path / "site.png"
    assert call("calibrate", talk, talk, "--out", out, "--model", model, "--plot", picture).status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_settings_of_the_beginning_stay(call, talk, model, out, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        'node = "cab12"\n[[source]]\nname = "desk"\ndevice = "mic:b"\n[[source]]\nname = "wall"\nchannel = 1\n'
        '[rolling]\nsensitivity = "strict"\n[mqtt]\nurl = "mqtts://broker"\n[baseline]\nmode = "fixed"\n'
    )
    arguments = ["--config", config, "--out", out, "--model", model]
    assert call("calibrate", talk, "--source", "desk", *arguments).status == 0
    settings = load_settings(out, environ={}).settings
    assert [(source.name, source.device) for source in settings.source] == [("desk", "mic:b"), ("wall", "mic")]
    assert (settings.node, settings.mqtt.url, settings.baseline.mode.value) == ("cab12", "mqtts://broker", "fixed")
    assert "at most 0.25 false episodes an hour" in out.read_text()
    out.unlink()
    call("calibrate", talk, *arguments).refuses(2, "several", "desk, wall")
    call("calibrate", talk, "--source", "roof", *arguments).refuses(2, "no source roof")
    assert not out.exists()


def test_it_listens_to_the_source_without_recordings(run, talk, model, out, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[[source]]\nname = "desk"\ndevice = "-"\n')
    pcm, _ = soundfile.read(talk, dtype="int16")
    arguments = ["--config", config, "--out", out, "--model", model]
    result = run("calibrate", *arguments, "--minutes", 2, stdin=pcm.tobytes())
    assert result.status == 0
    assert "for 2 minutes: speak as usual" in result.err
    assert load_baseline("desk").baseline.declared
    events = run("listen", "--config", out, stdin=pcm.tobytes()).of_type("reading", "episode")
    assert {event["type"] for event in events} == {"reading"}
    assert {(event["source"], event["baseline"]) for event in events} == {("desk", "ready")}


def test_its_own_settings_are_replaced_and_no_others(call, talk, model, out):
    assert call("calibrate", talk, "--out", out, "--model", model).status == 0
    assert call("calibrate", talk, "--out", out, "--model", model).status == 0
    out.write_text('node = "cab12"\n')
    call("calibrate", talk, "--out", out, "--model", model).refuses(2, "calibrate did not write", "another name")
    assert out.read_text() == 'node = "cab12"\n'


def test_a_model_to_which_all_speech_is_stressed(call, talk, tmp_path, out, nothing_written):
    model = write_model(tmp_path / "excited.onnx", centre_db=38.0)
    call("calibrate", talk, "--out", out, "--model", model).refuses(1, "sounds stressed", "calm")


def test_too_little_speech(call, speech, lively, out, nothing_written):
    (scored,) = score_recordings([speech], lively, Settings(), None)
    found = f"{scored.speech_seconds:.0f} s of speech"
    call("calibrate", speech, "--out", out, "--model", lively.path).refuses(1, found, "60 s", "record more")


def test_a_recording_shorter_than_a_window(call, write_audio, model, out, nothing_written):
    path = write_audio(np.zeros(1_600))
    call("calibrate", path, "--out", out, "--model", model).refuses(1, "0 s of speech", "60 s")


def test_silence(call, write_audio, model, out, nothing_written):
    path = write_audio(np.zeros(RATE * 90))
    call("calibrate", path, "--out", out, "--model", model).refuses(1, "silent", "check the microphone")


def test_noise(call, write_audio, model, out, nothing_written):
    path = write_audio(0.05 * np.random.default_rng(0).standard_normal(RATE * 90))
    call("calibrate", path, "--out", out, "--model", model).refuses(1, "no speech was found", "noise")


def test_music(call, write_audio, model, out, nothing_written):
    time = np.arange(RATE * 2) / RATE
    chords = [
        sum(np.sin(2 * np.pi * root * step * n * time) / n for step in (1.0, 1.26, 1.5) for n in range(1, 6))
        for root in (220.0, 262.0, 196.0, 294.0)
    ]
    path = write_audio(np.tile(0.05 * np.concatenate(chords), 12))
    call("calibrate", path, "--out", out, "--model", model).refuses(1, "music", "60 s")


def test_sound_as_even_as_music_that_the_gate_takes_for_speech(material: Material):
    even = replace(material, windows=[replace(window, range_db=8.0) for window in material.windows])
    check_calm([material], 60.0)
    with pytest.raises(SourceError, match="as even as music or noise"):
        check_calm([even], 60.0)


def test_unreadable_recordings(call, tmp_path, talk, model, out, nothing_written):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam")
    (tmp_path / "torn.flac").write_bytes(talk.read_bytes()[:300_000])
    for name, text in (
        ("gone.wav", "does not exist"),
        ("empty.wav", "is empty"),
        ("letter.wav", "is not audio"),
        ("torn.flac", "truncated"),
    ):
        call("calibrate", talk, tmp_path / name, "--out", out, "--model", model).refuses(1, name, text)
        call("calibrate", talk, "--stressed", tmp_path / name, "--out", out, "--model", model).refuses(1, name, text)


def test_a_stressed_recording_without_speech(call, talk, write_audio, model, out, nothing_written):
    path = write_audio(np.zeros(RATE * 9), "hush.wav")
    call("calibrate", talk, "--stressed", path, "--out", out, "--model", model).refuses(1, "hush.wav", "no speech")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[rolling]\nelevated = 0.5\nfalse_alarms_per_hour = 2.0\n", "rolling.elevated"),
        ("[rolling]\nhigh = 0.9\n", "rolling.high"),
        ("[rolling]\ntime_constant_seconds = 8.0\n", "rolling.time_constant_seconds"),
        ('[baseline]\nmode = "off"\n', "baseline.mode"),
        ("[rolling]\nfalse_alarms_per_hour = 0.0\n", "rolling.false_alarms_per_hour"),
    ],
)
def test_settings_that_contradict_a_calibration(call, talk, model, tmp_path, out, nothing_written, text, part):
    config = tmp_path / "config.toml"
    config.write_text(text)
    call("calibrate", talk, "--config", config, "--out", out, "--model", model).refuses(2, part)


def test_wrong_arguments(call, talk, model, tmp_path, out, nothing_written):
    always = [talk, "--model", model]
    call("calibrate", *always, "--out", out, "--minutes", 3).refuses(2, "--minutes", "leave")
    call("calibrate", *always, "--out", out, "--stressed", talk).refuses(2, "talk.flac", "calm and as stressed")
    call("calibrate", *always, "--out", out, "--source", "A b").refuses(2, "lower-case", "a-b")
    call("calibrate", *always, "--out", out, "--false-alarms-per-hour", -1).refuses(2, "--false-alarms-per-hour")
    call("calibrate", *always, "--out", tmp_path / "gone" / "site.toml").refuses(1, "no folder")
    call("calibrate", *always, "--out", out, "--plot", tmp_path / "picture.bmp").refuses(2, "--plot", ".png")
    call("calibrate", *always).refuses(2, "--out")


def test_a_plot_without_matplotlib(call, talk, model, tmp_path, out, nothing_written, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    arguments = ["--out", out, "--model", model, "--plot", tmp_path / "site.png"]
    call("calibrate", talk, *arguments).refuses(1, "matplotlib", "[plot]")


def test_a_plot_that_cannot_be_written_leaves_nothing(call, talk, model, tmp_path, out, nothing_written):
    pytest.importorskip("matplotlib", reason='pip install ".[plot]"')
    (tmp_path / "taken.png").mkdir()
    arguments = ["--out", out, "--model", model, "--plot", tmp_path / "taken.png"]
    call("calibrate", talk, *arguments).refuses(1, "taken.png", "cannot be written")


def test_a_baseline_that_cannot_be_written_leaves_nothing(call, talk, model, out, nothing_written):
    baseline_path("talk").mkdir(parents=True)
    call("calibrate", talk, "--out", out, "--model", model).refuses(1, "talk.json", "cannot be written")
