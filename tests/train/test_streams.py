"""Streams with known change points, through the real monitor with a real model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from pitch_model import write_pitch_model
from scipy.stats import poisson
from voices import RATE, voice

from edge_sser.audio.source import AudioBlock
from edge_sser.events import Episode, Event, Phase
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor
from edge_sser.settings.schema import Detector, GateSettings, RollingSettings, Settings
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.alarms import Point, alarm_rate, collar_samples, detect, find_alarms, match_alarms
from edge_sser.train.evaluate.by_speech import score_by_speech
from edge_sser.train.evaluate.distortions import speech_power, trimmed
from edge_sser.train.evaluate.models import open_file
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.streaming import compare_offline, play_stream, threshold_at_recall, try_streams
from edge_sser.train.evaluate.streams import (
    SNR_DB,
    SPEECH_DBFS,
    Sound,
    Span,
    Stream,
    assemble_streams,
    background_noise,
    calm_streams,
    normalise_level,
    parse_sounds,
)

STRESS = read_preset("quadrant")
GATE = GateSettings(detector=Detector.WEBRTC)  # to the network the toy voices are tones
DEVICE = Settings(gate=GATE)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Utterance]:
    """Speaker `long` has 2 minutes of calm and 1 minute of angry clips, `short` three clips."""
    folder = tmp_path_factory.mktemp("speakers")
    manners = {"calm": (120.0, 2.5), "angry": (240.0, 5.0)}
    sounds = {
        name: [voice(pitch_hz=pitch, syllables_hz=syllables, seconds=2.4, seed=seed) for seed in range(3)]
        for name, (pitch, syllables) in manners.items()
    }
    out = []
    for speaker, calm, angry in (("long", 50, 24), ("short", 2, 1)):
        for place, emotion in enumerate(["calm"] * calm + ["angry"] * angry + ["disgust"]):
            path = folder / f"{speaker}-{place}.flac"
            samples = sounds["calm" if emotion == "calm" else "angry"][place % 3]
            soundfile.write(path, samples * (0.2 if emotion == "calm" else 1.0), RATE)
            out.append(
                Utterance(
                    path=str(path), corpus="toy", speaker=speaker, sex="F", emotion=emotion, intensity="", fold=1,
                    duration_s=2.4, sha256=f"{speaker}{place}",
                )
            )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def stream(clips: Sequence[Utterance]) -> Stream:
    (only,) = assemble_streams(clips, STRESS, [])
    return only


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_pitch_model(tmp_path_factory.mktemp("model") / "pitch.onnx"))


def test_a_stream_is_made_of_those_with_enough_and_its_events_are_where_it_says(stream: Stream) -> None:
    assert stream.speaker == "long"
    assert len(stream.events) == 2
    assert stream.samples.size / RATE == pytest.approx((50 + 24) * (2.3 + 0.55) + 6.0, rel=0.1)
    for event, before in zip(stream.events, [0, stream.events[0].end], strict=True):
        assert _has_calm_pitch(stream.samples[before + 3 * RATE : event.start])
        assert not _has_calm_pitch(stream.samples[event.start : event.end])
    assert _has_calm_pitch(stream.samples[stream.events[-1].end :])


def test_clips_longer_than_a_part_leave_no_event_empty(clips: Sequence[Utterance], tmp_path: Path) -> None:
    few = []
    for number, emotion in enumerate(("calm", "angry", "calm", "angry", "calm")):
        path = tmp_path / f"{number}.flac"
        pitch = 120.0 if emotion == "calm" else 240.0
        soundfile.write(path, voice(pitch_hz=pitch, syllables_hz=4.0, seconds=50.0, seed=number), RATE)
        few.append(replace(clips[0], path=str(path), emotion=emotion, sha256=str(number)))
    (found,) = assemble_streams(few, STRESS, [])
    assert len(found.events) == 2
    assert all(event.end - event.start > 45 * RATE for event in found.events)


def test_speakers_of_a_corpus_without_stress_are_played_as_calm_speech(clips: Sequence[Utterance]) -> None:
    calm = [replace(clip, corpus="readers", emotion="", stress=0.0) for clip in clips if clip.emotion == "calm"]
    long, short = calm_streams([*clips, *calm], STRESS, [])
    assert (long.corpus, long.speaker, short.speaker) == ("readers", "long", "short")
    assert not long.events
    assert _has_calm_pitch(short.samples[3 * RATE : 5 * RATE])


def _has_calm_pitch(samples: np.ndarray) -> bool:
    """Only the calm voice has sound at 120 Hz; both have at 240 Hz."""
    spectrum = np.abs(np.fft.rfft(samples))
    hertz = np.fft.rfftfreq(samples.size, 1 / RATE)
    low, high = (spectrum[np.abs(hertz - at) < 15.0].max() for at in (120.0, 240.0))
    return bool(low > high / 10)


def test_neither_level_nor_noise_tells_the_parts_of_a_stream_apart(clips: Sequence[Utterance], stream: Stream) -> None:
    event = stream.events[0]
    loudness = [
        10 * np.log10(speech_power(part))
        for part in (stream.samples[event.start : event.end], stream.samples[3 * RATE : event.start])
    ]
    assert loudness[0] == pytest.approx(loudness[1], abs=1.0)  # the calm clips are 14 dB fainter
    assert not np.any(stream.samples[:RATE] == 0.0)  # no digital silence


def test_noise_of_a_stream_is_the_recording_that_was_given() -> None:
    hum = np.sin(2 * np.pi * 50 * np.arange(RATE) / RATE).astype(np.float32)
    noise = background_noise(3 * RATE, [hum], np.random.default_rng(0))
    assert 10 * np.log10(np.mean(noise.astype(float) ** 2)) == pytest.approx(SPEECH_DBFS - SNR_DB, abs=0.01)
    assert np.abs(np.fft.rfft(noise)).argmax() == 150


def test_clips_are_cut_to_their_speech_and_silence_stays() -> None:
    speech = voice(pitch_hz=120.0, syllables_hz=3.0, seconds=1.0, seed=1)
    padded = np.concatenate([np.zeros(RATE), speech, np.zeros(RATE)]).astype(np.float32)
    assert trimmed(padded).size == pytest.approx(speech.size, abs=800)
    silence = np.zeros(RATE, dtype=np.float32)
    assert trimmed(silence).size == RATE
    assert not normalise_level(silence).any()


def test_streaming_and_offline_scores_are_the_same_bits(stream: Stream, model: Model) -> None:
    played = play_stream(stream.samples, model, DEVICE)
    windows, different = compare_offline(stream.samples, model, DEVICE, played)
    assert windows == len(played.scores) > 100
    assert different == 0
    wrong = replace(played, scores=[played.scores[0] + 1e-12, *played.scores[1:]])
    assert compare_offline(stream.samples, model, DEVICE, wrong) == (windows, 1)


@pytest.mark.parametrize("time_constant", [None, 8.0])
@pytest.mark.parametrize(("elevated", "high"), [(0.3, 0.6), (0.5, 0.75), (0.65, 0.9)])
def test_alarms_at_another_threshold_are_those_of_a_monitor_with_that_threshold(
    stream: Stream, model: Model, elevated: float, high: float, time_constant: float | None
) -> None:
    plain = Settings(gate=GATE, rolling=RollingSettings(time_constant_seconds=time_constant))
    readings = play_stream(stream.samples, model, plain).readings
    rolling = RollingSettings(time_constant_seconds=time_constant, elevated=elevated, high=high)
    settings = Settings(gate=GATE, rolling=rolling)
    monitor = Monitor(node="n", source_name="s", started_at=0.0, live=False, model=model, settings=settings)
    events: list[Event] = [*monitor.push(AudioBlock(stream.samples)), *monitor.finish()]
    theirs = [
        Span(round(event.start_s * RATE), round(event.end_s * RATE))
        for event in events
        if isinstance(event, Episode) and event.phase is Phase.END
    ]
    assert theirs
    assert find_alarms(readings, plain, elevated=elevated, high=high) == theirs


SECOND = RATE


@pytest.mark.parametrize(
    ("found", "latencies", "right", "masked"),
    [
        ([], [None, None], [], 0),
        ([(11, 20)], [1, None], [True], 0),
        ([(22, 30)], [12, None], [True], 0),  # within the collar after the end
        ([(24, 30)], [None, None], [False], 0),
        ([(5, 60)], [None, None], [False], 2),  # on before both
        ([(12, 13), (14, 15), (41, 42)], [2, 1], [True, True, True], 0),
    ],
)
def test_alarms_belong_to_the_event_that_they_begin_in(
    found: list[tuple[int, int]], latencies: list[int | None], right: list[bool], masked: int
) -> None:
    events = [Span(10 * SECOND, 20 * SECOND), Span(40 * SECOND, 50 * SECOND)]
    spans = [Span(start * SECOND, end * SECOND) for start, end in found]
    expected = [None if latency is None else latency * SECOND for latency in latencies]
    assert match_alarms(events, spans, 3 * SECOND) == (expected, right, masked)


def test_an_ideal_listener_finds_every_event_late_by_the_smoothing_alone(stream: Stream, model: Model) -> None:
    settings = Settings(gate=GATE, rolling=RollingSettings(time_constant_seconds=0.1, dwell_seconds=0.0))
    readings = play_stream(stream.samples, model, settings).readings
    found = detect("toy", [(stream.events, readings)], Point("half", 0.5), settings)
    assert (found.events, found.found, found.at_onset, found.recall, found.precision) == (2, 2, 2, 1.0, 1.0)
    assert 0.5 <= found.latency_median_s <= collar_samples(settings) / RATE
    assert found.false.alarms == 0
    assert found.event_share > 0.8
    assert found.false.share < 0.1
    slow = Settings(gate=GATE, rolling=RollingSettings(time_constant_seconds=10.0))
    later = detect(
        "toy", [(stream.events, play_stream(stream.samples, model, slow).readings)], Point("half", 0.5), slow
    )
    assert later.latency_median_s > found.latency_median_s + 2.0


def test_a_threshold_that_is_always_exceeded_is_in_alarm_all_the_time(stream: Stream, model: Model) -> None:
    settings = DEVICE
    readings = play_stream(stream.samples, model, settings).readings
    found = detect("toy", [(stream.events, readings)], Point("none", 1e-6), settings)
    assert (found.found, found.masked, found.false.alarms) == (0, 2, 1)
    assert found.false.share > 0.9


@given(st.integers(0, 50), st.floats(0.1, 100.0))
def test_the_interval_of_a_rate_holds_what_could_have_given_the_count(count: int, hours: float) -> None:
    found = alarm_rate(count, hours, 0.0)
    assert found.low <= found.an_hour <= found.high
    assert poisson.cdf(count, found.high * hours) == pytest.approx(0.025, rel=1e-6)
    if count:
        assert poisson.sf(count - 1, found.low * hours) == pytest.approx(0.025, rel=1e-6)


def test_no_time_has_no_rate() -> None:
    assert np.isnan(alarm_rate(0, 0.0, 0.0).an_hour)


def test_the_operating_point_catches_its_share_with_each_corpus_weighing_the_same() -> None:
    table = ScoreTable([], STRESS)
    table.corpus = np.array(["a"] * 4 + ["b"] * 40)
    table.stress = np.ones(44, dtype=np.int64)
    table.judged = np.ones(44, dtype=np.bool_)
    table.probability = np.concatenate([[0.9, 0.8, 0.7, 0.6], np.full(40, 0.1)])
    assert threshold_at_recall(table, 0.5) == 0.6  # all of a, none of b
    assert threshold_at_recall(table, 0.75) == 0.1
    assert threshold_at_recall(table, 0.25) == 0.8


def test_calm_recordings_noise_and_streams_are_told_apart(
    clips: Sequence[Utterance], model: Model, tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    for name, pitch in (("calm", 120.0), ("agitated", 240.0)):
        samples = voice(pitch_hz=pitch, syllables_hz=4.0, seconds=20.0, seed=1)
        soundfile.write(tmp_path / f"{name}.flac", samples + 1e-4 * random.standard_normal(samples.size), RATE)
    soundfile.write(tmp_path / "hiss.flac", 1e-3 * random.standard_normal(10 * RATE), RATE)
    sounds = parse_sounds([f"calm={tmp_path / 'calm.flac'}", f"calm={tmp_path / 'agitated.flac'}",
                           f"noise={tmp_path / 'hiss.flac'}"])  # fmt: skip
    played: list[float] = []
    models = open_file(model.path, clips)
    found = try_streams(models, clips, STRESS, sounds, [Point("half", 0.5)], settings=DEVICE, progress=played.append)
    assert (found.left_out, found.differing) == (1, 0)
    assert found.compared > 100
    assert [detection.corpus for detection in found.detections] == ["toy"]
    quiet = {(each.sound, each.name): each for each in found.quiet if each.point == "half"}
    assert quiet[Sound.CALM, "calm"].rate.alarms == 0
    assert quiet[Sound.CALM, "agitated"].rate.alarms == 1  # what a false episode would look like
    assert quiet[Sound.CALM, "agitated"].rate.hours == pytest.approx(20 / 3600)
    assert quiet[Sound.CALM, "agitated"].rate.an_hour == pytest.approx(180.0)
    assert quiet[Sound.NOISE, "hiss"].rate.alarms == 0
    assert len(quiet) == 3
    assert sum(played) == pytest.approx(
        50.0 + sum(s.samples.size for s in assemble_streams(clips, STRESS, [])) / RATE, rel=0.01
    )


def test_a_folder_of_calm_recordings_is_played_one_by_one_and_end_to_end(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "readers"
    folder.mkdir()
    for place in range(3):
        soundfile.write(
            folder / f"{place}.flac", voice(pitch_hz=120.0, syllables_hz=4.0, seconds=5.0, seed=place), RATE
        )
    soundfile.write(folder / "short.flac", voice(pitch_hz=120.0, syllables_hz=4.0, seconds=1.0, seed=9), RATE)
    found = try_streams(
        open_file(model.path), [], STRESS, parse_sounds([f"calm={folder}"]), [Point("half", 0.5)], settings=DEVICE
    )
    hours = {each.name: each.rate.hours * 3600 for each in found.quiet if each.point == "half"}
    assert hours == pytest.approx({"readers": 15.0, "readers, end to end": 16.0})  # too short for a window of its own
    assert (found.detections, found.compared) == ([], 0)


def test_windows_with_more_speech_are_scored_better(clips: Sequence[Utterance], model: Model) -> None:
    shares = score_by_speech(open_file(model.path, clips), clips, STRESS, [], settings=DEVICE)
    assert [share.seconds for share in shares] == [0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    known = [share for share in shares if not np.isnan(share.auroc)]
    assert known[-1].auroc == 1.0
    assert known[-1].uar > known[0].uar
    assert all(share.windows < 20 for share in shares if np.isnan(share.confidence))
