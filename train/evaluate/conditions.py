"""Conditions of the robustness test: distortions with the limits of their effect."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.evaluate import distortions
from edge_sser.train.evaluate.distortions import Samples
from edge_sser.train.evaluate.streams import Sound, SoundFiles, read_recordings

SNRS_DB = (20, 10, 5, 0)
TALKERS = 4
_VOICES = 48  # clips for babble, of each corpus

Plain = Callable[[Samples, np.random.Generator], Samples]
Distortion = Callable[[Samples, np.random.Generator, Utterance], "Samples | None"]
"""Changes the samples of a clip, with all randomness from the generator; None where a clip does not allow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A distortion and the limits of its effect; None for no limit.

    Attributes:
        name: in the report.
        apply: the distortion.
        ua_change: least change of the emotions' UA.
        uar_change: least change of the stress decision's UAR.
        unchanged: least share of unchanged decisions.
        moved: largest change of UA and AUROC either way.
    """

    name: str
    apply: Distortion
    ua_change: float | None = None
    uar_change: float | None = None
    unchanged: float | None = None
    moved: float | None = None


def make_conditions(utterances: Sequence[Utterance], sounds: SoundFiles) -> tuple[list[Condition], list[str]]:
    """Returns all conditions that the given recordings allow, and a line for each other condition.

    Args:
        utterances: clips to make babble of.
        sounds: recordings of noise, music, coughs and rooms.

    Raises:
        SourceError: a recording cannot be read.
    """
    out: list[Condition] = []
    missing: list[str] = []
    backgrounds: dict[str, Callable[[float], Distortion]] = {
        "white noise": lambda snr_db: _plain(partial(distortions.white_noise, snr_db=snr_db)),
        f"babble of {TALKERS}": partial(_babble, _voices(utterances)),
    }
    for sound, name in ((Sound.NOISE, "recorded noise"), (Sound.MUSIC, "music")):
        if sound in sounds:
            backgrounds[name] = partial(_recorded, read_recordings(sounds[sound]))
        else:
            missing.append(f"{name}: none was given (--sound {sound.value}=PATH)")
    for name, make in backgrounds.items():
        for snr_db in SNRS_DB[:1] if name == "music" else SNRS_DB:
            out.append(Condition(name=f"{name}, {snr_db} dB", apply=make(snr_db), **_background(snr_db)))
    if Sound.COUGH in sounds:
        cough = _plain(partial(distortions.event, sounds=read_recordings(sounds[Sound.COUGH]), snr_db=10.0))
        out.append(Condition(name="cough, 10 dB", apply=cough, **_background(20)))
    else:
        missing.append("cough at 10 dB: none was given (--sound cough=PATH)")
    rooms = {f"room, {rt60} s": [distortions.room(rt60, np.random.default_rng(7))] for rt60 in (0.3, 0.7)}
    if Sound.ROOM in sounds:
        rooms["recorded rooms"] = read_recordings(sounds[Sound.ROOM])
    else:
        missing.append("recorded rooms: no impulse response was given (--sound room=PATH)")
    return [*out, *_channels(rooms)], missing


def _background(snr_db: float) -> dict[str, float]:
    """Returns the limits of noise behind speech."""
    if snr_db == 20:
        return {"ua_change": -0.03, "uar_change": -0.05, "unchanged": 0.90}
    return {"ua_change": -0.08} if snr_db == 10 else {}


def _channels(rooms: dict[str, list[Samples]]) -> list[Condition]:
    """Returns the conditions that change speech itself: telephones, filters, rooms, gain."""
    phone = {"ua_change": -0.05, "uar_change": -0.05, "unchanged": 0.50}
    tilt = {"ua_change": -0.02, "uar_change": -0.02, "unchanged": 0.80}
    place, small, knob = {"unchanged": 0.80}, {"unchanged": 0.95}, {"moved": 0.002}
    listed: list[tuple[str, Plain, dict[str, float]]] = [
        ("telephone, G.711", partial(distortions.codec, subtype="ULAW"), phone),
        ("telephone, GSM", partial(distortions.codec, subtype="GSM610"), phone),
        ("tilt, +3 dB an octave", partial(distortions.tilt, db_an_octave=3.0), tilt),
        ("tilt, -3 dB an octave", partial(distortions.tilt, db_an_octave=-3.0), tilt),
        *((name, partial(distortions.reverberate, responses=each), place) for name, each in rooms.items()),
        ("microphone, 150 to 5000 Hz", partial(distortions.narrow, low_hz=150.0, high_hz=5_000.0), place),
        ("gain, +2 dB", partial(distortions.gain, db=2.0), small),
        ("shift by 100 samples", partial(distortions.shift, by=100), small),
        ("mild filter, 60 to 7000 Hz", partial(distortions.narrow, low_hz=60.0, high_hz=7_000.0, order=1), small),
        ("gain, +12 dB", partial(distortions.gain, db=12.0), knob),
        ("gain, -12 dB", partial(distortions.gain, db=-12.0), knob),
    ]
    return [Condition(name=name, apply=_plain(change), **limits) for name, change, limits in listed]


def _plain(change: Plain) -> Distortion:
    return lambda samples, random, clip: change(samples, random)


def _recorded(sounds: list[Samples], snr_db: float) -> Distortion:
    return _plain(partial(distortions.recorded, sounds=sounds, snr_db=snr_db))


def _babble(voices: dict[str, list[tuple[str, Samples]]], snr_db: float) -> Distortion:
    """Babble of other speakers of the clip's corpus."""

    def apply(samples: Samples, random: np.random.Generator, clip: Utterance) -> Samples | None:
        others = [voice for speaker, voice in voices[clip.corpus] if speaker != clip.speaker]
        if not others:
            return None
        return distortions.babble(samples, random, voices=others, talkers=TALKERS, snr_db=snr_db)

    return apply


def _voices(utterances: Sequence[Utterance]) -> dict[str, list[tuple[str, Samples]]]:
    """Returns speaker and samples of some clips of each corpus, over as many speakers as possible."""
    return {
        corpus: [
            (clip.speaker, read_audio(clip.path))
            for clip in choose_clips([clip for clip in utterances if clip.corpus == corpus], _VOICES)
        ]
        for corpus in {clip.corpus for clip in utterances}
    }


def choose_clips(utterances: Sequence[Utterance], per_corpus: int) -> list[Utterance]:
    """Chooses at most so many clips of each corpus, as evenly over its speakers as possible; 0 takes all."""
    out: list[Utterance] = []
    for corpus in sorted({clip.corpus for clip in utterances}):
        random = np.random.default_rng(zlib.crc32(corpus.encode()))
        of_speaker: dict[str, list[Utterance]] = {}
        for clip in utterances:
            if clip.corpus == corpus:
                of_speaker.setdefault(clip.speaker, []).append(clip)
        ranked = [
            (rank, clips[place])
            for clips in of_speaker.values()
            for rank, place in enumerate(random.permutation(len(clips)))
        ]
        ranked.sort(key=lambda pair: (pair[0], pair[1].speaker))
        out += [clip for _, clip in (ranked[:per_corpus] if per_corpus else ranked)]
    return out
