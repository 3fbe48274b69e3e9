"""Index of corpora on disk: one checked table of utterances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sser.errors import SourceError, TrainingError
from edge_sser.pipeline.features import log_mel
from edge_sser.pipeline.level import dbfs
from edge_sser.train.corpora import besst, manifest
from edge_sser.train.corpora.fingerprint import fingerprint
from edge_sser.train.corpora.folds import assign_folds, check_folds, straddling_twins
from edge_sser.train.corpora.known import find_corpus, recognise
from edge_sser.train.corpora.report import Finding, FindingKind
from edge_sser.train.corpora.table import Entry, Utterance
from edge_sser.train.data.audio import as_pcm, content_hash, duration_s, read_audio

SHORTEST_S = 0.25  # shorter than this is no utterance
LONGEST_S = 60.0  # longer than this is a recording to cut, not an utterance
SILENT_DBFS = -80.0  # the noise of a converter alone; the faintest clip of RAVDESS is at -64

_LABELS = ("emotion", "soft", "intensity", "stress", "arousal", "valence", "sex")
_UNKNOWN: Sequence[object] = ("", None, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """Options of an index.

    Attributes:
        folds: number of new folds; None keeps the folds of the corpora.
        same: pairs of speakers, each CORPUS/SPEAKER, that are one person.
        drop_twins: leave out altered copies of another fold's recordings, instead of stopping.
    """

    folds: int | None = None
    same: Sequence[tuple[str, str]] = ()
    drop_twins: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """Result of an index.

    Attributes:
        findings: missing, left out or contradictory clips.
        clips: number of clips of each corpus, and the published number.
    """

    utterances: Sequence[Utterance]
    findings: Sequence[Finding]
    clips: Mapping[str, tuple[int, int | None]]


def parse_source(text: str) -> tuple[str, Path]:
    """Splits NAME=PATH; without a name, which is then empty, the corpus or its manifest gives it.

    Raises:
        TrainingError: nothing stands at the path.
    """
    name, separator, rest = text.partition("=")
    path = Path(rest if separator else text)
    if not path.exists():
        raise TrainingError(f"corpus {path}: no such folder or manifest: give a corpus's folder, .csv or .parquet")
    return (name.lower() if separator else ""), path


def index(
    sources: Iterable[tuple[str, Path]],
    progress: Callable[[Entry], None] = lambda entry: None,
    options: IndexOptions | None = None,
    expect: Callable[[int], None] = lambda recordings: None,
) -> Index:
    """Reads corpora, measures and hashes each recording, leaves out unusable ones, and assigns folds.

    Args:
        sources: name (see `parse_source`) and path of each corpus: an unpacked folder or a manifest.
        progress: called before each recording is read.
        options: of folds, persons and altered copies.
        expect: called with the number of recordings, before the first is read.

    Raises:
        TrainingError: a corpus cannot be used, two have the same name, a person stands in two folds, or an altered
            copy of a recording does.
    """
    options = options or IndexOptions()
    table: list[Utterance] = []
    findings: list[Finding] = []
    clips: dict[str, tuple[int, int | None]] = {}
    reads = [(source, *read) for name, source in sources for read in _read(name, source, findings)]
    expect(sum(len(entries) for _, _, entries, _ in reads))
    for path, corpus, entries, published in reads:
        if corpus in clips:
            raise TrainingError(f"corpus {corpus} is given twice: name them NAME=PATH")
        clips[corpus] = len(entries), published
        found = []
        for entry in entries:
            progress(entry)
            measured = _measure(corpus, entry)
            if isinstance(measured, Finding):
                findings.append(measured)
            else:
                found.append(measured)
        if not found:
            last = findings[-1].text if findings else "it is empty"
            raise TrainingError(f"corpus {path}: none of its recordings can be used: {last}")
        table += found
    table = _without_duplicates(table, findings)
    table = _with_folds(_with_persons(table, options.same), options.folds)
    check_folds(table)
    return Index(_without_twins(table, findings, options.drop_twins), findings, clips)


def _read(name: str, path: Path, findings: list[Finding]) -> list[tuple[str, Sequence[Entry], int | None]]:
    """Returns name, clips and published number of clips of each corpus at a path."""
    path = path.absolute()  # the table is read from other folders
    if not path.is_dir():
        if path.suffix.lower() not in manifest.SUFFIXES:
            raise TrainingError(f"corpus {path}: expected a folder, or a manifest that ends in .csv or .parquet")
        groups: dict[str, list[Entry]] = {}
        for entry in manifest.read_manifest(path):
            groups.setdefault(name or entry.corpus or path.stem.lower(), []).append(entry)
        return [(corpus, rows, None) for corpus, rows in groups.items()] or [(name or path.stem.lower(), [], None)]
    if name == besst.NAME or (find_corpus(name) is None and besst.is_besst(path)):
        return [(name or besst.NAME, list(besst.read_besst(path)), None)]
    corpus = recognise(name, path)
    corpus_findings: list[Finding] = []
    entries = corpus.read(path, corpus_findings)
    findings += [replace(finding, corpus=name or corpus.name) for finding in corpus_findings]
    return [(name or corpus.name, entries, corpus.clips)]


def _measure(corpus: str, entry: Entry) -> Utterance | Finding:
    location = entry.location

    def odd(text: str) -> Finding:
        return Finding(FindingKind.ODD, corpus, text)

    try:
        # The header is read first, so that an hour of audio is not decoded only to be refused.
        seconds = duration_s(location)
        if seconds <= LONGEST_S:
            samples = read_audio(location)
            seconds = samples.size / 16_000
    except SourceError as error:
        return odd(str(error))
    if not SHORTEST_S <= seconds <= LONGEST_S:
        return odd(f"{location}: {seconds:.2f} s long, expected {SHORTEST_S:g} to {LONGEST_S:g} s")
    level = dbfs(float(np.mean(samples.astype(np.float64) ** 2)))
    if level < SILENT_DBFS or not as_pcm(samples).any():
        return odd(f"{location}: silent ({level:.0f} dBFS)")
    described: dict[str, Any] = {name: getattr(entry, name) for name in (*_LABELS, "speaker", "fold", "statement")}
    return Utterance(
        path=location,
        corpus=corpus,
        **described,
        duration_s=round(seconds, 4),
        level_dbfs=round(level, 2),
        sha256=content_hash(samples),
        fingerprint=fingerprint(log_mel(samples)),
    )


def _without_duplicates(table: Sequence[Utterance], findings: list[Finding]) -> list[Utterance]:
    """Keeps the first of identical recordings, and none when their labels differ."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in table:
        groups[utterance.sha256].append(utterance)
    kept = []
    for group in groups.values():
        first, *others = group
        odd_one = next((other for other in others if _contradict(first, other)), None)
        if odd_one is not None:
            text = f"{odd_one.path} is the same recording as {first.path}, with other labels: neither is used"
            findings.append(Finding(FindingKind.CONTRADICTORY, odd_one.corpus, text))
            continue
        kept.append(first)
        for other in others:
            text = f"{other.path}: the same recording as {first.path}"
            if other.corpus != first.corpus:
                pair = f"{first.corpus}/{first.speaker}={other.corpus}/{other.speaker}"
                text += f"; if the speaker is one person, say so: --same-person {pair}"
            findings.append(Finding(FindingKind.DOUBLE, other.corpus, text))
    order = {utterance.path: index for index, utterance in enumerate(table)}
    return sorted(kept, key=lambda utterance: order[utterance.path])


def _contradict(one: Utterance, other: Utterance) -> bool:
    """Returns True when two descriptions of one recording contradict each other; a missing value does not."""
    if one.corpus == other.corpus and one.speaker != other.speaker:
        return True
    pairs = [(getattr(one, name), getattr(other, name)) for name in _LABELS]
    return any(a not in _UNKNOWN and b not in _UNKNOWN and a != b for a, b in pairs)


def _with_persons(table: Sequence[Utterance], same: Sequence[tuple[str, str]]) -> list[Utterance]:
    person: dict[str, str] = {}
    voices = {utterance.voice for utterance in table}
    for pair in same:
        for voice in pair:
            if voice not in voices:
                raise TrainingError(f"--same-person {'='.join(pair)}: no clip is by {voice}, expected CORPUS/SPEAKER")
        one, other = (person.get(voice, voice) for voice in pair)
        person |= {voice: one for voice, name in person.items() if name == other}
        person |= {pair[0]: one, pair[1]: one}
    return [replace(utterance, person=person.get(utterance.voice, "")) for utterance in table]


def _with_folds(table: Sequence[Utterance], folds: int | None) -> list[Utterance]:
    by_corpus: dict[str, list[Utterance]] = {utterance.corpus: [] for utterance in table}
    for utterance in table:
        by_corpus[utterance.corpus].append(utterance)
    fixed: dict[str, int] = {}
    # A person in two corpora keeps the fold of the corpus that has folds.
    for corpus in sorted(by_corpus, key=lambda name: not by_corpus[name][0].fold):
        by_corpus[corpus] = list(assign_folds(by_corpus[corpus], folds, fixed))
        fixed |= {utterance.person: utterance.fold for utterance in by_corpus[corpus] if utterance.person}
    return [utterance for rows in by_corpus.values() for utterance in rows]


def _without_twins(table: Sequence[Utterance], findings: list[Finding], drop: bool) -> Sequence[Utterance]:
    pairs = straddling_twins(table, [utterance.fold for utterance in table])
    if not pairs:
        return table
    if not drop:
        one, other = pairs[0]
        more = f", and {len(pairs) - 1} more pairs" if len(pairs) > 1 else ""
        raise TrainingError(
            f"{other.path} is an altered copy of {one.path} under another speaker and fold{more}: give both the same "
            "speaker, or leave such copies out with --drop-twins"
        )
    dropped = {}
    for one, other in pairs:
        if one.path not in dropped:
            dropped[other.path] = Finding(
                FindingKind.TWIN, other.corpus, f"{other.path} is an altered copy of {one.path}"
            )
    findings += dropped.values()
    return [utterance for utterance in table if utterance.path not in dropped]
