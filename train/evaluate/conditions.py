"""The conditions that robustness is tried under, each with the limits of what it may cost."""

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
from edge_sser.train.evaluate.streams import Sound, SoundFiles, read_all

SNRS_DB = (20, 10, 5, 0)
TALKERS = 4
_VOICES = 48  # clips kept for babble, a corpus

Plain = Callable[[Samples, np.random.Generator], Samples]
Distortion = Callable[[Samples, np.random.Generator, Utterance], "Samples | None"]
"""Changes the samples of a clip, with chance from one place; None where it cannot be done to this clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A distortion and what it may cost. A limit is None where none is set.

    Attributes:
        name: for people.
        apply: does it.
        ua_change: least change of the emotions' UA.
        uar_change: least change of the stress decision's UAR.
        unchanged: least share of decisions that stay.
        moved: largest change of UA and AUROC either way.
    """

    name: str
    apply: Distortion
    ua_change: float | None = None
    uar_change: float | None = None
    unchanged: float | None = None
    moved: float | None = None


def conditions(utterances: Sequence[Utterance], sounds: SoundFiles) -> tuple[list[Condition], list[str]]:
    """All conditions that the given recordings allow, and a line for each that they do not.

    Args:
        utterances: whose clips the babble is made of.
        sounds: recordings of noise, music, coughs and rooms.

    Raises:
        SourceError: a recording cannot be read.
    """
    out: list[Condition] = []
    missing: list[str] = []
    behind: dict[str, Callable[[float], Distortion]] = {
        "white noise": lambda snr_db: _plain(partial(distortions.white, snr_db=snr_db)),
        f"babble of {TALKERS}": partial(_babble, _voices(utterances)),
    }
    for sound, name in ((Sound.NOISE, "recorded noise"), (Sound.MUSIC, "music")):
        if sound in sounds:
            behind[name] = partial(_recorded, read_all(sounds[sound]))
        else:
            missing.append(f"{name}: none was given (--sound {sound.value}=PATH)")
    for name, make in behind.items():
        for snr_db in SNRS_DB[:1] if name == "music" else SNRS_DB:
            out.append(Condition(name=f"{name}, {snr_db} dB", apply=make(snr_db), **_background(snr_db)))
    if Sound.COUGH in sounds:
        cough = _plain(partial(distortions.event, sounds=read_all(sounds[Sound.COUGH]), snr_db=10.0))
        out.append(Condition(name="cough, 10 dB", apply=cough, **_background(20)))
    else:
        missing.append("cough at 10 dB: none was given (--sound cough=PATH)")
    rooms = {f"room, {rt60} s": [distortions.room(rt60, np.random.default_rng(7))] for rt60 in (0.3, 0.7)}
    if Sound.ROOM in sounds:
        rooms["recorded rooms"] = read_all(sounds[Sound.ROOM])
    else:
        missing.append("recorded rooms: no impulse response was given (--sound room=PATH)")
    return [*out, *_channels(rooms)], missing


def _background(snr_db: float) -> dict[str, float]:
    """Limits of noise behind speech."""
    if snr_db == 20:
        return {"ua_change": -0.03, "uar_change": -0.05, "unchanged": 0.90}
    return {"ua_change": -0.08} if snr_db == 10 else {}


def _channels(rooms: dict[str, list[Samples]]) -> list[Condition]:
    """What changes speech without a sound beside it."""
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
    """Speakers of the same corpus, other than the clip's own."""

    def apply(samples: Samples, random: np.random.Generator, clip: Utterance) -> Samples | None:
        others = [voice for speaker, voice in voices[clip.corpus] if speaker != clip.speaker]
        if not others:
            return None
        return distortions.babble(samples, random, voices=others, talkers=TALKERS, snr_db=snr_db)

    return apply


def _voices(utterances: Sequence[Utterance]) -> dict[str, list[tuple[str, Samples]]]:
    """Some clips of each corpus, with their speakers, as many of them as there are."""
    return {
        corpus: [
            (clip.speaker, read_audio(clip.path))
            for clip in choose_clips([clip for clip in utterances if clip.corpus == corpus], _VOICES)
        ]
        for corpus in {clip.corpus for clip in utterances}
    }


def choose_clips(utterances: Sequence[Utterance], per_corpus: int) -> list[Utterance]:
    """At most so many clips of each corpus, as evenly over its speakers as they allow; 0 takes all."""
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
