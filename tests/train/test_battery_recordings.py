"""The model that ships on recordings of people: what no synthetic voice can show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from components import require

from edge_sser.model.shipped import SSER_CNN
from edge_sser.settings.schema import Settings
from edge_sser.train.corpora.index import index
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.alarms import Point
from edge_sser.train.evaluate.baselines import pitch_hz
from edge_sser.train.evaluate.conditions import make_conditions
from edge_sser.train.evaluate.models import open_file
from edge_sser.train.evaluate.robustness import try_conditions
from edge_sser.train.evaluate.streaming import compare_offline, play_stream, try_streams
from edge_sser.train.evaluate.streams import parse_sounds

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(3600)]  # as many recordings as there are


@pytest.fixture(scope="module")
def data() -> Path:
    require("EDGE_SSER_DATA" in os.environ, "set EDGE_SSER_DATA to the folder of the development recordings")
    return Path(os.environ["EDGE_SSER_DATA"])


@pytest.fixture(scope="module")
def clips(data: Path) -> Sequence[Utterance]:
    """RAVDESS's first two actors, a man and a woman."""
    return [clip for clip in index([("ravdess", data / "ravdess")]).utterances if clip.speaker in ("01", "02")]


def test_the_gain_knob_changes_nothing_and_20_db_of_noise_little(clips: Sequence[Utterance], data: Path) -> None:
    names = ("gain, +12 dB", "gain, -12 dB", "white noise, 20 dB", "babble of 4, 0 dB")
    conditions = [condition for condition in make_conditions(clips, {})[0] if condition.name in names]
    found = try_conditions(open_file(SSER_CNN.fp32, clips), clips, conditions, preset="quadrant")
    effects = {effect.condition: effect for effect in found.effects}
    for name in names[:2]:
        assert all(check.passed for check in effects[name].checks)
    assert effects["white noise, 20 dB"].auroc_change > -0.05
    assert effects["babble of 4, 0 dB"].auroc_change < effects["white noise, 20 dB"].auroc_change


def test_streams_of_an_actor_are_scored_as_offline_and_their_events_found(
    clips: Sequence[Utterance], data: Path
) -> None:
    sounds = parse_sounds([f"noise={data / 'background'}"])
    models = open_file(SSER_CNN.fp32, clips)
    found = try_streams(models, clips, read_preset("quadrant"), sounds, [Point("half", 0.5)])
    assert found.left_out == 0
    assert found.compared > 100
    assert found.differing == 0
    (detection,) = found.detections
    assert detection.events >= 2
    assert detection.event_share > detection.false.share  # the model was trained on these actors


@pytest.mark.parametrize(("detector", "least"), [("webrtc", 301), ("network", 277)])
def test_a_conversation_is_scored_as_offline_to_the_last_bit(data: Path, detector: str, least: int) -> None:
    """The conversation has 333 windows; in those with too little speech there is nothing to compare."""
    model, settings = open_file(SSER_CNN.fp32).final, Settings.model_validate({"gate": {"detector": detector}})
    samples = read_audio(data / "speech" / "conversation.flac")
    windows, different = compare_offline(samples, model, settings, play_stream(samples, model, settings))
    assert windows >= least
    assert different == 0


def test_women_speak_higher_than_men(clips: Sequence[Utterance]) -> None:
    def octave(speaker: str) -> float:
        calm = [clip for clip in clips if clip.speaker == speaker and clip.emotion == "calm"]
        voiced = [value for clip in calm for value in pitch_hz(read_audio(clip.path))]
        return sorted(voiced)[len(voiced) // 2]

    assert 80.0 < octave("01") < 150.0 < octave("02") < 300.0
