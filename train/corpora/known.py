"""Registry of published corpora, and the recognition of an unpacked folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.corpus import Corpus, audio_files, files_below
from edge_sser.train.corpora.crema_d import CREMA_D
from edge_sser.train.corpora.emo_db import EMO_DB
from edge_sser.train.corpora.ravdess import RAVDESS
from edge_sser.train.corpora.savee import SAVEE
from edge_sser.train.corpora.tess import TESS

KNOWN: Sequence[Corpus] = (RAVDESS, CREMA_D, TESS, SAVEE, EMO_DB)

_ARCHIVES = (".zip", ".gz", ".tgz", ".7z", ".rar")


def find_corpus(name: str) -> Corpus | None:
    """Returns the corpus of a name in any spelling."""
    return next((corpus for corpus in KNOWN if _normalise(corpus.name) == _normalise(name)), None)


def recognise(name: str, folder: Path) -> Corpus:
    """Returns the corpus that a folder holds, at any depth; the folder must match `name` if that is a known corpus.

    Raises:
        TrainingError: the folder holds no corpus that is known, or another one.
    """
    paths = audio_files(folder)
    matches = {corpus.name: sum(corpus.entry(path) is not None for path in paths) for corpus in KNOWN}
    likeliest = max(KNOWN, key=lambda corpus: matches[corpus.name])
    named = find_corpus(name)
    candidate = named or likeliest
    if matches[candidate.name]:
        return candidate
    if not paths:
        archives = sorted(path for path in files_below(folder) if path.suffix.lower() in _ARCHIVES)
        empty = f"no audio file: {_obtain(candidate, named)}"
        content = f"only {archives[0].name}: unpack it there" if archives else empty
        raise TrainingError(f"corpus {folder}: it holds {content}")
    if matches[likeliest.name]:
        raise TrainingError(
            f"corpus {folder}: no file is named like {candidate.title} ({candidate.example}), but "
            f"{matches[likeliest.name]} like {likeliest.title}: give it as {likeliest.name}={folder}"
        )
    examples = candidate.example if named else ", ".join(corpus.example for corpus in KNOWN)
    raise TrainingError(
        f"corpus {folder}: none of its {len(paths)} audio files is named like {examples}: {_obtain(candidate, named)}"
    )


def _obtain(candidate: Corpus, named: Corpus | None) -> str:
    return f"{candidate.obtain} there" if named else "give a folder of a known corpus, or a manifest"


def _normalise(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
