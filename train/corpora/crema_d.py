"""CREMA-D (Cao et al., 2014): 91 actors, twelve sentences, six emotions, votes of 2,443 raters.

1001_DFA_ANG_XX: actor, sentence, emotion, level (LO MD HI, XX: not said); one file of the release ends in a single X.
Sex comes from VideoDemographics.csv. processedResults/tabulatedVotes.csv counts the raters' votes (columns A D F H N S)
for each clip three times: rows 1xxxxx heard the voice only, 2xxxxx saw the face only, 3xxxxx had both. A microphone has
the voice only, so those are the soft labels; they often differ from the acted emotion.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.corpus import Corpus, files_below
from edge_sser.train.corpora.table import Entry
from edge_sser.train.data.labels import Emotion

DEMOGRAPHICS = "VideoDemographics.csv"
VOTES = "tabulatedVotes.csv"

_NAME = re.compile(
    r"(?P<actor>10[0-8]\d|109[01])_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
)
_EMOTIONS = {
    "ANG": Emotion.ANGRY,
    "DIS": Emotion.DISGUST,
    "FEA": Emotion.FEARFUL,
    "HAP": Emotion.HAPPY,
    "NEU": Emotion.NEUTRAL,
    "SAD": Emotion.SAD,
}
_VOTED = {code[0]: emotion.value for code, emotion in _EMOTIONS.items()}
_INTENSITIES = {"LO": "low", "MD": "normal", "HI": "strong"}
_SPEAKERS = tuple(str(actor) for actor in range(1001, 1092))
_LAST_OF_FOLD = (1018, 1036, 1054, 1072, 1091)  # the five blocks of EMO-SUPERB (Wu et al., 2024)


def _entry(path: Path) -> Entry | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or match["actor"] not in _SPEAKERS:
        return None
    return Entry(
        path=path,
        clip=_clip(path.stem),
        speaker=match["actor"],
        emotion=_EMOTIONS[match["emotion"]].value,
        intensity=_INTENSITIES.get(match["level"], ""),
        statement=match["sentence"],
        fold=next(fold for fold, last in enumerate(_LAST_OF_FOLD, start=1) if int(match["actor"]) <= last),
    )


def _clip(name: str) -> str:
    return f"{name}X" if name.endswith("_X") else name


def _tables(folder: Path, entries: Sequence[Entry]) -> tuple[Sequence[Entry], Sequence[str]]:
    absent = []
    sexes: Mapping[str, str] = {}
    votes: Mapping[str, Mapping[str, float]] = {}
    demographics = _beside(folder, DEMOGRAPHICS)
    if demographics is None:
        absent.append(f"{DEMOGRAPHICS} is not there: the actors' sex is not known")
    else:
        sexes = {row["ActorID"]: row["Sex"][:1] for row in _rows(demographics, ("ActorID", "Sex"))}
    tabulated = _beside(folder, VOTES)
    if tabulated is None:
        absent.append(f"processedResults/{VOTES} is not there: there are no soft labels")
    else:
        votes = dict(_voice_votes(tabulated))
    labelled = [replace(entry, sex=sexes.get(entry.speaker, ""), soft=votes.get(entry.clip, {})) for entry in entries]
    return labelled, absent


def _voice_votes(path: Path) -> Iterator[tuple[str, Mapping[str, float]]]:
    for row in _rows(path, ("", "fileName", *_VOTED)):
        if not row[""].startswith("1"):
            continue
        try:
            counts = {emotion: int(row[letter]) for letter, emotion in _VOTED.items()}
        except ValueError:
            raise TrainingError(f"{path}: {row['fileName']}: a vote is not a number: fetch the file again") from None
        if sum(counts.values()):
            yield _clip(row["fileName"]), {name: n / sum(counts.values()) for name, n in counts.items() if n}


def _beside(folder: Path, name: str) -> Path | None:
    """Returns the path of a table in the corpus folder, or beside it when the audio folder alone was given."""
    for root in (folder, folder.parent):
        for path in (root / name, root / "processedResults" / name):
            if path.is_file():
                return path
    return min((path for path in files_below(folder) if path.name == name), default=None)


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise TrainingError(
                    f"{path}: the column {missing[0] or 'of row numbers'} is missing: fetch the file again"
                )
            return [{name: row[name] or "" for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{path}: cannot be read as CSV in UTF-8 ({error}): fetch the file again") from None


CREMA_D = Corpus(
    name="crema-d",
    title="CREMA-D",
    example="1001_DFA_ANG_XX.wav",
    obtain="clone github.com/CheyneyComputerScience/CREMA-D with Git LFS (AudioWAV/)",
    entry=_entry,
    emotions={emotion.value: 1087 if emotion is Emotion.NEUTRAL else 1271 for emotion in _EMOTIONS.values()},
    speakers=_SPEAKERS,
    tables=_tables,
)
