"""What distortions do to sound, and what is counted when they are tried on a real model file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from pitch_model import write_pitch_model
from voices import RATE, voice

from edge_sser.errors import EdgeSserError
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.evaluate import distortions
from edge_sser.train.evaluate.conditions import Condition, choose_clips, make_conditions
from edge_sser.train.evaluate.distortions import speech_power
from edge_sser.train.evaluate.models import open_file
from edge_sser.train.evaluate.robustness import Robustness, try_conditions
from edge_sser.train.evaluate.streams import Sound, parse_sounds

SPEECH = voice(pitch_hz=140.0, syllables_hz=3.0, seconds=2.0, seed=4)


def chance() -> np.random.Generator:
    return np.random.default_rng(5)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


@settings(deadline=None)
@given(snr_db=st.sampled_from([20.0, 10.0, 5.0, 0.0]), gain=st.floats(0.001, 10.0))
def test_noise_lies_below_the_speech_by_what_was_asked_whatever_its_own_level(snr_db: float, gain: float) -> None:
    noise = np.float32(gain) * chance().standard_normal(SPEECH.size).astype(np.float32)
    added = distortions.add_noise(SPEECH, noise, snr_db) - SPEECH
    assert 10 * np.log10(speech_power(SPEECH)) - level_db(added) == pytest.approx(snr_db, abs=0.1)


def test_pauses_do_not_make_speech_seem_fainter() -> None:
    sparse = np.concatenate([SPEECH, np.zeros(5 * RATE, dtype=np.float32)])
    assert speech_power(sparse) == pytest.approx(speech_power(SPEECH), rel=0.05)


DISTORTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "white": lambda x: distortions.white_noise(x, chance(), snr_db=10.0),
    "recorded": lambda x: distortions.recorded(x, chance(), sounds=[SPEECH[:999]], snr_db=10.0),
    "babble": lambda x: distortions.babble(x, chance(), voices=[SPEECH, SPEECH[:9000]], talkers=4, snr_db=10.0),
    "event": lambda x: distortions.event(x, chance(), sounds=[SPEECH[:3000]], snr_db=10.0),
    "ulaw": lambda x: distortions.codec(x, chance(), subtype="ULAW"),
    "gsm": lambda x: distortions.codec(x, chance(), subtype="GSM610"),
    "tilt": lambda x: distortions.tilt(x, chance(), db_an_octave=3.0),
    "room": lambda x: distortions.reverberate(x, chance(), responses=[distortions.room(0.4, chance())]),
    "narrow": lambda x: distortions.narrow(x, chance(), low_hz=150.0, high_hz=5_000.0),
    "gain": lambda x: distortions.gain(x, chance(), db=-12.0),
    "shift": lambda x: distortions.shift(x, chance(), by=100),
}


@pytest.mark.parametrize("name", DISTORTIONS)
@pytest.mark.parametrize(
    "samples", [SPEECH, SPEECH[:4001], np.zeros(8000, dtype=np.float32)], ids=["2s", "short", "zeros"]
)
def test_every_distortion_changes_the_sound_and_nothing_of_its_shape(name: str, samples: np.ndarray) -> None:
    before = samples.copy()
    out = DISTORTIONS[name](samples)
    assert (out.shape, out.dtype) == (samples.shape, np.float32)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(samples, before)  # others get the same clip
    if samples.any():
        assert not np.array_equal(out, samples)
        np.testing.assert_array_equal(DISTORTIONS[name](samples), out)  # chance comes from the generator alone


def tone(hertz: float) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize("subtype", ["ULAW", "GSM610"])
def test_a_telephone_passes_its_band_and_nothing_else(subtype: str) -> None:
    passed = distortions.codec(tone(1000.0), chance(), subtype=subtype)
    stopped = distortions.codec(tone(100.0) + tone(6000.0), chance(), subtype=subtype)
    assert abs(level_db(passed) - level_db(tone(1000.0))) < 3.0
    assert level_db(stopped) < level_db(tone(1000.0)) - 15.0


def test_a_tilt_is_what_it_says_an_octave() -> None:
    def gain_db(hertz: float) -> float:
        return level_db(distortions.tilt(tone(hertz), chance(), db_an_octave=3.0)) - level_db(tone(hertz))

    assert gain_db(1000.0) == pytest.approx(0.0, abs=0.05)
    assert gain_db(2000.0) - gain_db(500.0) == pytest.approx(6.0, abs=0.1)


def test_a_room_decays_by_60_db_in_its_time() -> None:
    tail = distortions.room(0.5, chance()).astype(np.float64) ** 2
    later = 10 * np.log10(tail[4000:4800].mean() / tail[800:1600].mean())  # 0.2 s apart
    assert later == pytest.approx(-60.0 * 0.2 / 0.5, abs=1.5)


@pytest.fixture
def rows(toy_table: Path) -> Sequence[Utterance]:
    return read_table(toy_table)


def tried(rows: Sequence[Utterance], model: Path, *conditions: Condition) -> Robustness:
    return try_conditions(open_file(model, rows), rows, conditions, preset="quadrant")


def test_what_changes_nothing_costs_nothing_and_what_destroys_costs_all(
    rows: Sequence[Utterance], tmp_path: Path
) -> None:
    model = write_pitch_model(tmp_path / "m.onnx")
    found = tried(
        rows,
        model,
        Condition(name="nothing", apply=lambda x, r, c: x.copy(), unchanged=0.95, ua_change=-0.01, moved=0.002),
        Condition(
            name="another voice",  # every clip gets the pitch of the angry ones
            apply=lambda x, r, c: voice(pitch_hz=240.0, syllables_hz=5.0, seconds=2.0, seed=1),
            unchanged=0.9, ua_change=-0.05, uar_change=-0.05,
        ),
    )  # fmt: skip
    (clean,) = found.clean
    assert (clean.clips, clean.ua, clean.auroc, clean.uar) == (48, 1.0, 1.0, 1.0)
    same, other = found.effects
    assert (same.ua_change, same.auroc_change, same.uar_change, same.stress_unchanged) == (0.0, 0.0, 0.0, 1.0)
    assert all(check.passed for check in same.checks)
    assert (other.ua_change, other.auroc_change, other.uar_change) == (-0.5, -0.5, -0.5)
    assert (other.emotions_unchanged, other.stress_unchanged) == (0.5, 0.5)
    assert [check.passed for check in other.checks] == [False] * 4


def test_the_gain_knob_moves_no_score_of_a_model_that_hears_no_level(rows: Sequence[Utterance], tmp_path: Path) -> None:
    conditions, _ = make_conditions(rows, {})
    knob = [condition for condition in conditions if condition.name.startswith("gain")]
    assert len(knob) == 3
    found = tried(rows, write_pitch_model(tmp_path / "m.onnx"), *knob)
    assert all(effect.stress_unchanged == 1.0 and check.passed for effect in found.effects for check in effect.checks)


def test_every_condition_runs_on_what_was_given_and_the_rest_is_told(rows: Sequence[Utterance], tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    soundfile.write(noise / "tap.flac", 0.1 * chance().standard_normal(RATE), RATE)
    soundfile.write(tmp_path / "ir.wav", distortions.room(0.3, chance()), RATE)
    sounds = parse_sounds([f"noise={noise}", f"room={tmp_path / 'ir.wav'}"])
    conditions, missing = make_conditions(rows, sounds)
    names = [condition.name for condition in conditions]
    assert {
        "recorded noise, 20 dB",
        "babble of 4, 0 dB",
        "white noise, 5 dB",
        "recorded rooms",
        "telephone, GSM",
    } < set(names)
    assert len(missing) == 2
    assert "music" in missing[0]
    assert "cough" in missing[1]
    chosen = choose_clips(rows, 12)
    models = open_file(write_pitch_model(tmp_path / "m.onnx"), rows)
    steps: list[None] = []
    found = try_conditions(models, chosen, conditions, preset="quadrant", progress=lambda: steps.append(None))
    assert [effect.condition for effect in found.effects] == names
    assert len(steps) == 12 * (len(conditions) + 1)


def test_babble_is_of_others_and_needs_them(rows: Sequence[Utterance], tmp_path: Path) -> None:
    alone = [row for row in rows if row.speaker == rows[0].speaker]
    conditions = [condition for condition in make_conditions(alone, {})[0] if condition.name.startswith("babble")]
    assert tried(alone, write_pitch_model(tmp_path / "m.onnx"), *conditions).effects == []


def test_clips_are_chosen_evenly_over_speakers_and_the_same_each_time(rows: Sequence[Utterance]) -> None:
    many = [*rows, *(replace(row, corpus="other") for row in rows[:9])]
    chosen = choose_clips(many, 12)
    assert chosen == choose_clips(many, 12)
    first = [row.speaker for row in chosen if row.corpus == "ravdess"]
    assert sorted(first.count(speaker) for speaker in set(first)) == [2] * 6
    assert sum(row.corpus == "other" for row in chosen) == 9
    assert len(choose_clips(many, 0)) == len(many)


def test_a_choice_of_one_kind_of_clips_still_tells_which_decisions_changed(
    rows: Sequence[Utterance], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    calm = [row for row in rows if row.emotion == "calm"][:4]
    model = write_pitch_model(tmp_path / "pitch.onnx")
    knob = [
        Condition(name="gain, +12 dB", apply=lambda samples, random, clip: samples * 4.0, moved=0.002, unchanged=0.9)
    ]
    found = try_conditions(open_file(model, calm), calm, knob, preset="quadrant")
    assert [line.split(":")[0] for line in found.missing] == [
        "AUROC and UAR of stress on ravdess",
        "emotions on ravdess",
    ]
    (effect,) = found.effects
    assert np.isnan([effect.ua_change, effect.auroc_change, effect.uar_change, effect.emotions_unchanged]).all()
    assert effect.stress_unchanged == 1.0
    assert {check.name: check.passed for check in effect.checks} == {
        "UA moved by": None,
        "AUROC moved by": None,
        "emotions unchanged": None,
        "stress unchanged": True,
    }
    assert not [warning for warning in recwarn.list if issubclass(warning.category, RuntimeWarning)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("birds=x.wav", "--sound birds=x.wav: expected KIND=PATH with KIND noise, music, cough, room, calm"),
        ("noise", "expected KIND=PATH"),
        ("noise=nowhere", "no such file or folder"),
        ("noise=empty", "the folder holds no recording"),
    ],
)
def test_sounds_that_cannot_be_used_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeSserError, match=message.replace(".", r"\.")):
        parse_sounds([given])


def test_several_folders_of_a_kind_are_kept_apart(tmp_path: Path) -> None:
    for name in ("rooms", "streets"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.flac", SPEECH, RATE)
    found = parse_sounds([f"calm={tmp_path / 'rooms'}", f"calm={tmp_path / 'streets'}"])
    assert list(found[Sound.CALM]) == ["rooms", "streets"]
