"""From corpora on disk to one checked table of utterances."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sser.errors import SourceError, TrainingError

from ..audio import read_audio
from ..folds import assign_folds
from .entry import Entry
from .manifest import read_manifest
from .ravdess import read_ravdess
from .table import Utterance

SHORTEST_S = 0.25  # shorter than this is no utterance
LONGEST_S = 60.0  # longer than this is a recording to cut, not an utterance


@dataclass(frozen=True, slots=True)
class Index:
    """What was found.

    Attributes:
        utterances: the table.
        odd: one line for each recording left out, saying why.
    """

    utterances: Sequence[Utterance]
    odd: Sequence[str]


def parse_source(text: str) -> tuple[str, Path]:
    """Splits NAME=PATH; without a name, the corpus is called like the folder or the manifest.

    Raises:
        TrainingError: nothing stands at the path.
    """
    name, separator, rest = text.partition("=")
    path = Path(rest if separator else text)
    if not path.exists():
        raise TrainingError(f"corpus {path}: no such folder or manifest: give a RAVDESS folder or a .csv file")
    return (name if separator else path.stem).lower(), path


def index(sources: Iterable[tuple[str, Path]], progress: Callable[[Entry], None] = lambda entry: None) -> Index:
    """Reads corpora, measures and hashes each recording, leaves out the odd ones, and assigns folds.

    Args:
        sources: name and place of each corpus: a folder with RAVDESS's names, or a manifest.
        progress: called before each recording is read.

    Raises:
        TrainingError: a corpus cannot be used, or two have the same name.
    """
    table: list[Utterance] = []
    odd: list[str] = []
    names: set[str] = set()
    seen: dict[str, Path] = {}
    for corpus, place in sources:
        if corpus in names:
            raise TrainingError(f"corpus {corpus} is given twice: name them NAME=PATH")
        names.add(corpus)
        found: list[Utterance] = []
        for entry in read_ravdess(place) if place.is_dir() else read_manifest(place):
            progress(entry)
            utterance = _measure(corpus, entry, seen, odd)
            if utterance is not None:
                found.append(utterance)
        if not found:
            raise TrainingError(
                f"corpus {place}: none of its recordings can be used: {odd[-1] if odd else 'it is empty'}"
            )
        table.extend(assign_folds(found))
    return Index(table, odd)


def _measure(corpus: str, entry: Entry, seen: dict[str, Path], odd: list[str]) -> Utterance | None:
    try:
        samples = read_audio(entry.path)
    except SourceError as error:
        odd.append(str(error))
        return None
    duration = samples.size / 16_000
    if not SHORTEST_S <= duration <= LONGEST_S:
        odd.append(f"{entry.path}: {duration:.2f} s long, expected {SHORTEST_S} to {LONGEST_S} s: left out")
        return None
    coded = (samples.clip(-1.0, 1.0) * 32767.0).round().astype("<i2")
    if not coded.any():
        odd.append(f"{entry.path}: nothing but digital silence: left out")
        return None
    digest = hashlib.sha256(coded.tobytes()).hexdigest()
    if digest in seen:
        odd.append(f"{entry.path}: the same recording as {seen[digest]}: left out")
        return None
    seen[digest] = entry.path
    return Utterance(
        path=str(entry.path),
        corpus=corpus,
        speaker=entry.speaker,
        sex=entry.sex,
        emotion=entry.emotion,
        intensity=entry.intensity,
        fold=entry.fold,
        duration_s=round(duration, 4),
        sha256=digest,
    )
