"""BESST, the Brno extended stress and speech test (Pesan et al., Scientific Data, 2024): three levels of induced load.

The audio is one long recording a person, audio/PERSON/close_talk.wav; it is given on request. Its lists
(github.com/BUTSpeechFIT/besst-dataset), files that end in .scp, cut it: a line is
person;segment;start ms;end ms;text;phase;task;..;..;load, and load is 1, 2 or 3. Their train, validation and test lists
share persons, so they are read as one, and folds are assigned by speaker.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.corpus import files_below
from edge_sser.train.corpora.table import Entry

NAME = "besst"
SUFFIX = ".scp"
_AUDIO = "close_talk.wav"
_FIELDS = 10
_STRESS = {"1": 0.0, "2": 0.5, "3": 1.0}


def is_besst(folder: Path) -> bool:
    """Returns True when a folder holds the lists or the audio of BESST."""
    return bool(_lists(folder)) or any(folder.glob(f"audio/*/{_AUDIO}"))


def read_besst(folder: Path) -> Iterator[Entry]:
    """Reads the segments that the lists below a folder name.

    Raises:
        TrainingError: there is no list, a line is not understood, or a segment has two loads: the lists of one target
            belong there.
    """
    found = _lists(folder)
    if not found:
        raise TrainingError(
            f"corpus {folder}: it holds no list of BESST's segments (*{SUFFIX}): put those of one target of "
            "github.com/BUTSpeechFIT/besst-dataset there"
        )
    seen: dict[str, str] = {}
    for path in found:
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
            fields = line.split(";")
            if number == 1 and not fields[0].isdigit():
                continue  # some of the lists have a header
            if len(fields) != _FIELDS or fields[-1] not in _STRESS or not (fields[2] + fields[3]).isdigit():
                raise TrainingError(f"{path}, line {number}: expected person;segment;start;end; ... ;load 1 to 3")
            person, segment, load = fields[0], f"{fields[0]}_{fields[1]}", fields[-1]
            if segment in seen:
                if seen[segment] != load:
                    raise TrainingError(
                        f"{path}, line {number}: segment {segment} has another load in another list: "
                        "keep the lists of one target, cognitive or physical load"
                    )
                continue
            seen[segment] = load
            yield Entry(
                path=folder / "audio" / person / _AUDIO,
                clip=segment,
                speaker=person,
                start_s=int(fields[2]) / 1000,
                end_s=int(fields[3]) / 1000,
                stress=_STRESS[load],
            )


def _lists(folder: Path) -> list[Path]:
    return sorted(path for path in files_below(folder) if path.name.endswith(SUFFIX))
