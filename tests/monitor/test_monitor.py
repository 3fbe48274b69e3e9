"""One source through the whole path: properties of readings and episodes."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from models import CARD, changed_card, write_model
from streams import LAW, RATE, STARTED_AT, blocks, cuts, losses, make_monitor, noise, play, silence

from edge_sser.audio.source import AudioBlock
from edge_sser.errors import SettingsError
from edge_sser.events import (
    BaselineState,
    Episode,
    Event,
    Level,
    Phase,
    Reading,
    json_schema,
    timestamp,
    to_json,
)
from edge_sser.model.affect import EmotionAxis
from edge_sser.model.backend import Backend, Logits
from edge_sser.model.model import Calibration, Model
from edge_sser.monitor.stream_clock import StreamClock
from edge_sser.pipeline.baseline import Baseline
from edge_sser.pipeline.features import log_mel
from edge_sser.pipeline.highpass import high_pass

EXCERPT = 12 * RATE
WEBRTC = {"gate": {"detector": "webrtc"}}
# With the tiny model, these make the recording rise and fall through all levels.
LIVELY = {"rolling": {"time_constant_seconds": 2.0, "dwell_seconds": 0.5, "elevated": 0.3, "high": 0.6}}


class Counter:
    """A backend that counts how often it was run."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.provider, self.close = backend, backend.provider, backend.close
        self.runs = 0

    def run(self, log_mel: np.ndarray, *, limit_seconds: float | None = None) -> Logits:
        self.runs += 1
        return self._backend.run(log_mel, limit_seconds=limit_seconds)


@pytest.fixture
def counter(model: Model) -> Counter:
    return Counter(model.backend)


@pytest.fixture
def counting(model: Model, counter: Counter) -> Model:
    return Model(counter, model.card, path=model.path, sha256=model.sha256)


@pytest.fixture(scope="module")
def events(model: Model, samples: np.ndarray) -> list[Event]:
    """Returns the events of the recording, with lively levels."""
    return play(make_monitor(model, LIVELY), [AudioBlock(samples)])


def readings(events: list[Event]) -> list[Reading]:
    return [event for event in events if isinstance(event, Reading)]


def episodes(events: list[Event]) -> list[Episode]:
    return [event for event in events if isinstance(event, Episode)]


@LAW
@given(places=cuts(EXCERPT), lost=losses(EXCERPT))
def test_chunking_changes_no_bit_of_any_line(
    model: Model, samples: np.ndarray, places: list[int], lost: dict[int, int]
) -> None:
    audio = samples[11 * RATE :][:EXCERPT]
    cut = [to_json(event) for event in play(make_monitor(model, LIVELY), blocks(audio, places, lost))]
    whole = [to_json(event) for event in play(make_monitor(model, LIVELY), blocks(audio, [], lost))]
    assert cut == whole
    assert any('"stress":0.' in line for line in whole)


def test_blocks_of_a_second_and_of_a_millisecond_give_the_same_lines(
    model: Model, samples: np.ndarray, events: list[Event]
) -> None:
    for size in (RATE, 3_200, 16):
        blocks_of_size = [AudioBlock(samples[at : at + size]) for at in range(0, samples.size, size)]
        got = play(make_monitor(model, LIVELY), blocks_of_size)
        assert [to_json(event) for event in got] == [to_json(event) for event in events]


@LAW
@given(places=cuts(EXCERPT), lost=losses(EXCERPT))
def test_every_sample_is_processed_or_dropped(
    model: Model, samples: np.ndarray, places: list[int], lost: dict[int, int]
) -> None:
    monitor = make_monitor(model)
    audio = blocks(samples[:EXCERPT], places, lost)
    for block in audio:
        monitor.push(block)
        counters = monitor.counters
        assert counters.read == counters.processed + counters.dropped
    assert monitor.counters.processed == EXCERPT
    assert monitor.counters.dropped == sum(lost.values())


def test_every_line_validates_against_the_schema(events: list[Event]) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    kinds = {type(event).__name__ for event in events}
    assert kinds == {"Reading", "Episode", "Health"}
    for event in events:
        validator.validate(json.loads(to_json(event)))


def test_silence_is_not_calm_and_costs_no_inference(counting: Model, counter: Counter) -> None:
    audio = np.concatenate((silence(10.0), noise(10.0, dbfs=-50.0)))
    got = readings(play(make_monitor(counting), [AudioBlock(audio)]))
    assert len(got) == 35
    assert counter.runs == 0
    assert {(r.stress, r.stress_rolling, r.level, r.confidence) for r in got} == {(None, None, None, None)}
    assert {(r.arousal, r.valence) for r in got} == {(None, None)}
    assert got[0].dbfs == -120.0


def test_inference_happens_for_windows_with_enough_speech_only(
    counting: Model, counter: Counter, samples: np.ndarray
) -> None:
    got = readings(play(make_monitor(counting, {"gate": {"min_speech_ratio": 0.6}}), [AudioBlock(samples)]))
    scored = [reading for reading in got if reading.stress is not None]
    assert 0 < len(scored) < len(got)
    assert counter.runs == len(scored)
    assert all((reading.stress is not None) == (reading.speech_ratio >= 0.6) for reading in got)


def test_without_any_speech_nothing_is_scored_even_with_a_minimum_ratio_of_zero(
    counting: Model, counter: Counter
) -> None:
    play(make_monitor(counting, {"gate": {"min_speech_ratio": 0.0}}), [AudioBlock(silence(5.0))])
    assert counter.runs == 0


def test_a_pause_keeps_the_rolling_stress_and_the_level(model: Model, samples: np.ndarray) -> None:
    audio = np.concatenate((samples[12 * RATE : 24 * RATE], silence(10.0)))
    got = readings(play(make_monitor(model, LIVELY), [AudioBlock(audio)]))
    paused = [reading for reading in got if reading.end_s > 15.0]
    assert len(paused) == 14
    assert {reading.stress for reading in paused} == {None}
    assert {reading.confidence for reading in paused} == {None}
    last = next(reading for reading in reversed(got) if reading.stress is not None)
    assert last.level is not None
    assert {(r.stress_rolling, r.level) for r in paused} == {(last.stress_rolling, last.level)}


def test_a_reading_has_the_score_of_its_three_seconds(model: Model, samples: np.ndarray) -> None:
    mel = log_mel(high_pass(samples))
    got = readings(play(make_monitor(model), [AudioBlock(samples)]))
    assert len(got) == 1 + (samples.size - 3 * RATE) // (RATE // 2)
    for reading in got:
        if reading.stress is not None:
            score = model.score(mel[round(reading.start_s * 100) : round(reading.end_s * 100)])
            assert reading.stress == round(score.stress, 4)
            assert reading.confidence == pytest.approx(abs(2 * reading.stress - 1), abs=2e-4)
    assert got[0].model == model.label


def test_a_reading_has_the_arousal_and_valence_of_the_card(tmp_path: Path, samples: np.ndarray) -> None:
    plain = Calibration(temperature=10.0, bias=0.0)
    arousal = EmotionAxis(high=("anger", "happiness"), low=("calm",), calibration=plain)
    valence = EmotionAxis(high=("happiness",), low=("anger", "fear"), calibration=plain)
    model = Model.load(write_model(tmp_path / "axes.onnx", card=replace(CARD, arousal=arousal, valence=valence)))
    mel = log_mel(high_pass(samples))
    scored = [each for each in readings(play(make_monitor(model), [AudioBlock(samples)])) if each.stress is not None]
    assert len(scored) > 20
    for reading in scored:
        score = model.score(mel[round(reading.start_s * 100) : round(reading.end_s * 100)])
        assert score.arousal is not None
        assert score.valence is not None
        assert (reading.arousal, reading.valence) == (round(score.arousal, 4), round(score.valence, 4))
    assert len({reading.arousal for reading in scored}) > 10


def test_a_window_with_little_speech_is_trusted_less_and_scored_from_the_ratio_of_the_card(
    tmp_path: Path, model: Model, samples: np.ndarray
) -> None:
    card = changed_card(speech_trust=((0.5, 0.2), (1.0, 0.4), (1.2, 0.5), (2.5, 1.0)))
    trusting = Model.load(write_model(tmp_path / "trusting.onnx", card=card))
    parts = np.split(samples, range(2 * RATE, samples.size, 2 * RATE))
    audio = [AudioBlock(part) for speech in parts for part in (speech, silence(2.0))]
    plain = readings(play(make_monitor(model, WEBRTC), audio))
    got = readings(play(make_monitor(trusting, WEBRTC), audio))
    assert any(reading.stress is not None for reading in plain if reading.speech_ratio < 0.4)
    lowered = 0
    for before, after in zip(plain, got, strict=True):
        assert (after.stress is not None) == (after.speech_ratio >= 0.4)  # 1.2 of 3 s, where trust is a half
        if after.stress is not None:
            assert (after.stress, before.confidence) == (
                before.stress,
                pytest.approx(abs(2 * before.stress - 1), abs=2e-4),
            )
            expected = before.confidence * np.interp(3.0 * after.speech_ratio, [1.2, 2.5], [0.5, 1.0])
            assert after.confidence == pytest.approx(expected, abs=3e-4)
            lowered += after.confidence < before.confidence
    assert lowered > 5
    asked = readings(play(make_monitor(trusting, {"gate": {"detector": "webrtc", "min_speech_ratio": 0.1}}), audio))
    assert all((reading.stress is not None) == (reading.speech_ratio >= 0.1) for reading in asked)


def test_the_network_needs_four_tenths_of_a_second_of_speech_whatever_the_card_says(
    tmp_path: Path, samples: np.ndarray
) -> None:
    card = changed_card(speech_trust=((0.5, 0.2), (1.0, 0.4), (1.2, 0.5), (2.5, 1.0)))
    trusting = Model.load(write_model(tmp_path / "trusting.onnx", card=card))
    parts = np.split(samples, range(2 * RATE, samples.size, 2 * RATE))
    audio = [AudioBlock(part) for speech in parts for part in (speech, silence(2.0))]
    got = readings(play(make_monitor(trusting), audio))
    assert all((reading.stress is not None) == (reading.speech_ratio >= 4 / 30 - 1e-3) for reading in got)
    assert any(reading.speech_ratio < 0.4 for reading in got if reading.stress is not None)


def test_the_rolling_stress_is_smoothed_over_speech_time(model: Model, samples: np.ndarray) -> None:
    scores, now, rolling = [], 0.0, []
    options = {**LIVELY, "window": {"hop_seconds": 0.3}}
    for reading in readings(play(make_monitor(model, options), [AudioBlock(samples)])):
        if reading.stress is not None:
            begun, now = now, now + 0.3 * reading.speech_ratio  # seconds of speech
            scores.append((begun, now, reading.stress))
            rolling.append(reading.stress_rolling)
    weights = np.array([math.exp((end - now) / 2.0) - math.exp((begin - now) / 2.0) for begin, end, _ in scores])
    expected = np.cumsum(weights * [stress for _, _, stress in scores]) / np.cumsum(weights)
    assert rolling == pytest.approx(expected, abs=2e-4)


def test_a_reading_has_its_time_and_number(model: Model, samples: np.ndarray) -> None:
    got = readings(play(make_monitor(model, {"window": {"hop_seconds": 0.7}}), [AudioBlock(samples)]))
    assert [reading.id for reading in got[:2]] == ["cab12/desk/000000", "cab12/desk/000001"]
    assert [(reading.start_s, reading.end_s) for reading in got[:3]] == [(0.0, 3.0), (0.7, 3.7), (1.4, 4.4)]
    assert got[1].ts == timestamp(STARTED_AT + 3.7) == "2026-01-02T03:04:09.378Z"
    assert len({reading.id for reading in got}) == len(got)


def test_lost_audio_advances_the_time_and_is_reported_in_the_next_reading(model: Model) -> None:
    audio = [AudioBlock(noise(3.5, dbfs=-40.0)), AudioBlock(noise(3.5, dbfs=-40.0), dropped=20_000)]
    got = readings(play(make_monitor(model), audio))
    assert [reading.dropped_s for reading in got] == [0.0, 0.0, 1.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert [reading.end_s for reading in got[:4]] == [3.0, 3.5, 5.25, 5.75]
    assert [reading.start_s for reading in got[:4]] == [0.0, 0.5, 1.0, 1.5]
    assert [reading.start_s for reading in got[-3:]] == [3.0, 4.75, 5.25]
    assert got[2].ts == timestamp(STARTED_AT + 5.25)


def test_latency_is_from_the_arrival_of_the_last_sample_and_none_in_a_recording(model: Model) -> None:
    clock = itertools.count(100.0, 0.0042).__next__  # every look takes 4.2 ms
    live = make_monitor(model, live=True, clock=clock, times=StreamClock())
    got = readings(live.push(AudioBlock(noise(3.0, dbfs=-40.0))))
    assert [reading.latency_ms for reading in got] == [4.2]
    recording = make_monitor(model, live=False, clock=clock)
    assert readings(recording.push(AudioBlock(noise(3.0, dbfs=-40.0))))[0].latency_ms is None


def test_every_episode_of_a_stream_has_one_id_and_ends(model: Model, samples: np.ndarray) -> None:
    options = {**LIVELY, "episode": {"update_seconds": 1.0, "silence_seconds": 2.0}}
    for seconds in (14.0, 17.5, 21.0, 30.0, 45.0):
        got = episodes(play(make_monitor(model, options), [AudioBlock(samples[: int(seconds * RATE)])]))
        by_id = [list(group) for _, group in itertools.groupby(got, key=lambda event: event.id)]
        assert len({group[0].id for group in by_id}) == len(by_id)
        for group in by_id:
            phases = [event.phase for event in group]
            assert phases == [Phase.START, *[Phase.UPDATE] * (len(group) - 2), Phase.END]
            assert len({event.start_s for event in group}) == 1
            assert [event.ts for event in group] == sorted(event.ts for event in group)
            assert all(event.duration_s == round(event.end_s - event.start_s, 3) for event in group)
    assert any(event.phase is Phase.UPDATE for event in got)


def test_an_episode_belongs_to_the_readings_at_its_level(events: list[Event]) -> None:
    spans = {event.id: event for event in episodes(events) if event.phase is Phase.END}
    assert spans
    for reading in readings(events):
        inside = [e for e in spans.values() if e.start_s <= reading.end_s <= e.end_s]
        if reading.stress is not None and reading.level is not Level.LOW:
            (episode,) = inside
            assert reading.stress_rolling is not None
            assert reading.stress_rolling <= episode.peak
            assert reading.level is not None
            assert reading.level.rank <= episode.level.rank


def test_the_id_of_an_episode_is_the_time_of_its_start_and_differs_after_a_restart(
    model: Model, samples: np.ndarray, events: list[Event]
) -> None:
    first = episodes(events)[0]
    moment = timestamp(STARTED_AT + first.start_s)
    assert first.ts == moment
    assert first.id == f"cab12/desk/{moment.replace('-', '').replace(':', '')}"
    later = play(make_monitor(model, LIVELY, started_at=STARTED_AT + 60.0), [AudioBlock(samples)])
    assert not {event.id for event in episodes(later)} & {event.id for event in episodes(events)}


def test_levels_come_from_the_card_unless_the_settings_say_otherwise(tmp_path: Path, samples: np.ndarray) -> None:
    model = Model.load(write_model(tmp_path / "eager.onnx", card=changed_card(elevated=0.05, high=0.1)))
    audio = [AudioBlock(samples)]
    settings = {"rolling": {"time_constant_seconds": 8.0, "hysteresis": 0.01}}
    assert Level.HIGH in {r.level for r in readings(play(make_monitor(model, settings), audio))}
    settings = {"rolling": {"time_constant_seconds": 8.0, "elevated": 0.97, "high": 0.99}}
    assert {r.level for r in readings(play(make_monitor(model, settings), audio))} == {Level.LOW}
    with pytest.raises(SettingsError, match=r"rolling\.elevated is 0\.5 and rolling\.high is 0\.1"):
        make_monitor(model, {"rolling": {"time_constant_seconds": 8.0, "elevated": 0.5}})


def test_audio_shorter_than_a_window_gives_no_reading_but_is_accounted_for(model: Model, samples: np.ndarray) -> None:
    monitor = make_monitor(model)
    got = play(monitor, [AudioBlock(samples[: 3 * RATE - 1])])
    assert readings(got) == []
    assert monitor.counters.processed == 3 * RATE - 1


def test_a_second_finish_gives_no_events(model: Model, samples: np.ndarray) -> None:
    monitor = make_monitor(model, LIVELY)
    assert episodes(play(monitor, [AudioBlock(samples[: 20 * RATE])]))[-1].phase is Phase.END
    assert monitor.finish() == []


def test_loud_and_full_scale_noise_gives_valid_lines(model: Model) -> None:
    audio = np.clip(noise(6.0, dbfs=10.0), -1.0, 1.0)
    got = play(make_monitor(model), [AudioBlock(audio)])
    assert all(reading.clipped for reading in readings(got))
    assert all(json.loads(to_json(event)) for event in got)


FILTERED = {"rolling": {"elevated": 0.4}}


@pytest.fixture(scope="module")
def steep(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose log-odds for the recording go far enough up and down for the filter."""
    card = changed_card(calibration=Calibration(temperature=0.35, bias=-1.0))
    return Model.load(write_model(tmp_path_factory.mktemp("model") / "steep.onnx", card=card))


def test_a_reading_has_its_baseline_and_an_episode_its_evidence(steep: Model, samples: np.ndarray) -> None:
    got = play(make_monitor(steep, FILTERED), [AudioBlock(samples)])
    states = [reading.baseline for reading in readings(got)]
    assert states == sorted(states, key=[BaselineState.LEARNING, BaselineState.READY].index)
    assert all(reading.baseline_shift is not None for reading in readings(got))
    found = [episode for episode in episodes(got) if episode.phase is Phase.END]
    assert found
    for episode in found:
        assert episode.evidence_s <= episode.declared_s == episode.start_s
        assert episode.evidence_s < episode.declared_s
        lower = 1.0 / (1.0 + math.exp(2.0) * 0.6 / 0.4)  # log-odds of 2 below the threshold
        rising = [r for r in readings(got) if episode.evidence_s <= r.end_s <= episode.declared_s]
        assert all(r.stress_rolling is not None and r.stress_rolling >= lower - 1e-2 for r in rising)
    off = readings(play(make_monitor(steep, {"baseline": {"mode": "off"}}), [AudioBlock(samples)]))
    assert {(reading.baseline, reading.baseline_shift) for reading in off} == {(BaselineState.OFF, None)}


@LAW
@given(places=cuts(EXCERPT), lost=losses(EXCERPT))
def test_chunking_changes_no_bit_with_filter_and_baseline(
    steep: Model, samples: np.ndarray, places: list[int], lost: dict[int, int]
) -> None:
    audio = samples[11 * RATE :][:EXCERPT]
    cut = [to_json(event) for event in play(make_monitor(steep, FILTERED), blocks(audio, places, lost))]
    assert cut == [to_json(event) for event in play(make_monitor(steep, FILTERED), blocks(audio, [], lost))]


def test_a_monitor_goes_on_learning_in_the_baseline_that_it_is_given(model: Model, samples: np.ndarray) -> None:
    baseline = Baseline()
    baseline.declare([-1.0] * 60, [0.5] * 60)
    heard = baseline.heard_seconds
    monitor = make_monitor(model, baseline=baseline)
    assert monitor.baseline is baseline
    got = readings(play(monitor, [AudioBlock(samples)]))
    assert got[0].baseline is BaselineState.READY
    assert baseline.heard_seconds >= heard
