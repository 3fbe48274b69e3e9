"""Folders named as the published corpora name their files, with tiny sounds where a test needs them decoded."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
VOTES_HEADER = (
    '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp","meanAngerResp",'
    '"meanDisgustResp","meanFearResp","meanHappyResp","meanNeutralResp","meanSadResp"'
)


def ravdess() -> list[str]:
    codes = [(emotion, 1) for emotion in range(1, 9)] + [(emotion, 2) for emotion in range(2, 9)]
    return [
        f"Actor_{actor:02d}/03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}.wav"
        for (emotion, intensity), statement, repetition, actor in product(codes, (1, 2), (1, 2), range(1, 25))
    ]


def crema_d() -> list[str]:
    """91 actors times 82, less the 20 that the release lacks, and with its one odd name."""
    emotions = ("ANG", "DIS", "FEA", "HAP", "SAD")
    sentences = ("DFA", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
    names = []
    for actor in range(1001, 1092):
        names += [f"{actor}_IEO_{emotion}_{level}" for emotion in emotions for level in ("LO", "MD", "HI")]
        names += [f"{actor}_{sentence}_{emotion}_XX" for sentence in sentences for emotion in emotions]
        names += [f"{actor}_{sentence}_NEU_XX" for sentence in ("IEO", *sentences)]
    lost = {f"{1002 + number}_WSI_{emotion}_XX" for emotion in emotions for number in range(3)}
    lost |= {f"{1002 + number}_WSI_NEU_XX" for number in range(5)}
    odd = "1040_ITH_SAD_XX"
    return [f"AudioWAV/{name[:-1] if name == odd else name}.wav" for name in names if name not in lost]


def tess() -> list[str]:
    """200 words; the folders of one of the copies, and the release's one odd name."""
    codes = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
    words = ["back", "bite", *(f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(198))]
    names = [f"{who}_{code}/{who}_{word}_{code}.wav" for who, word, code in product(("OAF", "YAF"), words, codes)]
    return [name.replace("OAF_bite_neutral", "OA_bite_neutral") for name in names]


def savee(*, flat: bool) -> list[str]:
    counts = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    return [
        f"{who}{'_' if flat else '/'}{code}{number:02d}.wav"
        for who in ("DC", "JE", "JK", "KL")
        for code, count in counts.items()
        for number in range(1, count + 1)
    ]


def emo_db() -> list[str]:
    """The published number of clips of each emotion, dealt to speakers, texts and versions."""
    counts = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79}
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    texts = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
    places = [f"{who}{text}{{}}{version}" for version in "abcd" for who in speakers for text in texts]
    return [f"wav/{place.format(code)}.wav" for code, count in counts.items() for place in places[:count]]


def touch(folder: Path, names: Iterable[str]) -> Path:
    """Empty files: enough where only names are read."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def sounds(folder: Path, names: Iterable[str], *, seconds: float = 0.4) -> Path:
    """Files of noise, each another."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = zlib.crc32(name.encode())
        noise = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
        soundfile.write(path, noise, RATE)
    return folder


def votes(rows: Iterable[tuple[str, str, tuple[int, int, int, int, int, int]]]) -> str:
    """CREMA-D's table of votes: row number, clip, and the votes for A D F H N S."""
    lines = [VOTES_HEADER]
    for number, clip, counts in rows:
        total = sum(counts)
        lines.append(f'"{number}",{",".join(map(str, counts))},"{clip}",{total},0.5,"N",60,-1,-1,-1,-1,60,-1')
    return "\n".join(lines) + "\n"
