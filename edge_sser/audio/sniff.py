"""Tells raw PCM on a pipe from files and from raw PCM of another coding, which would sound like loud noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.settings.schema import SampleFormat

MAGIC_BYTES = 4
ENOUGH_BYTES = 1 << 20  # of sound, from its first sample that is not 0
# A signal's power between neighbouring samples by its own: 2 for white noise, far below 1 for speech.
SUSPECT_RATIO, SOUND_RATIO = 0.5, 0.6
CLEARER = 0.35  # times the ratio in the declared coding, where another is believed
MAX_OFFSET = 0.1  # of full scale
UNUSED_RMS = 0.001  # of full scale, of halves that carry nothing but rounding
ALIGNMENT = 12  # bytes, a multiple of every coding's
_UNIFORM_RMS = 1 / np.sqrt(3)
_CONTAINERS = {
    b"RIFF": "WAV",
    b"RIFX": "WAV",
    b"RF64": "WAV",
    b"BW64": "WAV",
    b"riff": "W64",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"FORM": "AIFF",
    b".snd": "AU",
    b"caff": "CAF",
    b"NIST": "NIST SPHERE",
    b"Crea": "VOC",
    b"#!AM": "AMR",
    b"wvpk": "WavPack",
    b"\x1a\x45\xdf\xa3": "WebM or Matroska",
    b"\x30\x26\xb2\x75": "WMA",
}
_KBPS = {  # of MPEG audio, by (version 1, layer III)
    (True, True): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, False): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, True): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_FRAMES = 3  # in a row, to tell a stream from samples that look like its first bytes


def container(head: bytes) -> str | None:
    """Returns the kind of file that begins with these bytes; None for raw PCM, or when more bytes are needed."""
    if head[:3] == b"ID3":
        return "MP3"
    if head[4:8] == b"ftyp":
        return "M4A"
    place = 0
    for _ in range(_MPEG_FRAMES):
        frame = head[place : place + 6]
        size = _mpeg_frame_bytes(frame) if len(frame) == 6 else 0
        if not size:
            return _CONTAINERS.get(head[:MAGIC_BYTES])
        place += size
    return "AAC" if head[1] & 0x06 == 0 else "MP3"


def other_coding(data: bytes, declared: SampleFormat, channels: int) -> str | None:
    """Returns the coding that raw PCM has in place of the declared one; None when the declared one can be right.

    Args:
        data: from the start of a frame, in any coding.
        declared: coding that the user gave.
        channels: interleaved in it.
    """
    decoded = _decodings(data[: len(data) - len(data) % (ALIGNMENT * channels)])
    given = decoded[declared.value]
    halves = decoded[SampleFormat.S16LE.value]
    limit = SOUND_RATIO
    if declared is SampleFormat.F32LE:
        plausible = _is_float_audio(given)
    elif declared is SampleFormat.S32LE and _ratio(halves[::2], channels) < SOUND_RATIO:
        plausible = False
    else:
        ratio = _ratio(given, channels)
        plausible = ratio < SUSPECT_RATIO
        limit = min(SOUND_RATIO, CLEARER * ratio)
    if plausible:
        return None
    # Stereo with a dead left channel looks like 32 bits of which the lower are unused.
    may_be_padded = declared is not SampleFormat.S16LE or channels == 1
    ratios = {
        name: _ratio(samples, channels)
        for name, samples in decoded.items()
        if name != declared.value
        and samples.any()
        and _ratio(samples, channels)
        and _usable(name, samples, halves[::2], may_be_padded)
    }
    best = min(ratios, key=lambda name: ratios[name], default=None)
    return best if best is not None and ratios[best] <= limit else None


def _decodings(data: bytes) -> dict[str, NDArray[np.float64]]:
    """Decodes the same bytes in every coding; -1 to 1 where that coding is the right one."""

    def pcm(kind: Any, full_scale: float) -> NDArray[np.float64]:
        return np.asarray(np.frombuffer(data, kind) / full_scale, np.float64)

    triples = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
    s24 = ((triples[:, 0] << 8 | triples[:, 1] << 16 | triples[:, 2] << 24) >> 8) / 2.0**23
    with np.errstate(invalid="ignore"):
        floats = np.frombuffer(data, "<f4").astype(np.float64)
    codes = np.frombuffer(data, np.uint8)
    return {
        "s16le": pcm("<i2", 2.0**15),
        "s32le": pcm("<i4", 2.0**31),
        "f32le": floats,
        "s16be": pcm(">i2", 2.0**15),
        "s24le": s24,
        "u8": np.asarray((codes - 128.0) / 128.0, np.float64),
        "mulaw": _mulaw_table()[codes],
    }


@lru_cache(maxsize=1)
def _mulaw_table() -> NDArray[np.float64]:
    """Returns the value of each code of mu-law (ITU-T G.711)."""
    code = ~np.arange(256, dtype=np.uint8)
    size = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return np.asarray(np.where(code & 0x80, -size, size) / 2.0**15, np.float64)


def _usable(name: str, samples: NDArray[np.float64], low: NDArray[np.float64], may_be_padded: bool) -> bool:
    if name == SampleFormat.F32LE.value:
        return _is_float_audio(samples)
    if name == SampleFormat.S32LE.value:  # its low halves are noise over the whole range, or unused
        uniform = _ratio(low, 1) > SUSPECT_RATIO and abs(_rms(low) / _UNIFORM_RMS - 1) < 0.1
        return uniform or (may_be_padded and _rms(low) < UNUSED_RMS)
    return bool(abs(samples.mean()) < MAX_OFFSET)


def _is_float_audio(samples: NDArray[np.float64]) -> bool:
    sizes = np.abs(samples)
    with np.errstate(invalid="ignore"):
        wrong = ~(sizes <= 8.0) | ((sizes > 0) & (sizes < 1e-20))
    return bool(wrong.mean() < 0.01)


def _ratio(samples: NDArray[np.float64], channels: int) -> float:
    """Returns the power of differences by the power of the signal, of the channel where that is largest.

    Channels without a signal do not count; where none has one, the ratio is 0.
    """
    largest = 0.0
    for number in range(channels):
        channel = samples[number::channels]
        with np.errstate(invalid="ignore", over="ignore"):
            power = float(np.var(channel))
            if not np.isfinite(power):
                return 2.0
            if power > 0.0:
                largest = max(largest, float(np.mean(np.diff(channel) ** 2)) / power)
    return largest


def _rms(samples: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def _mpeg_frame_bytes(head: bytes) -> int:
    """Returns the size of the MPEG audio frame (layers II and III, or AAC in ADTS) that begins so; 0 for none."""
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if head[1] & 0xF0 == 0xF0 else 0
    rate_code, bits = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 3 or rate_code == 3 or not 0 < bits < 15:
        return 0
    rate_hz = (44_100, 48_000, 32_000)[rate_code] >> (0 if version == 3 else 1 if version == 2 else 2)
    kbps = _KBPS[version == 3, layer == 1][bits - 1]
    return (144 if version == 3 or layer == 2 else 72) * kbps * 1000 // rate_hz + (head[2] >> 1 & 1)
