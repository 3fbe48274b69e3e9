"""Comparison of the reference systems with ours, from committed predictions alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_sser.train.data.labels import Preset, read_preset
from edge_sser.train.evaluate.metrics import DRAWS, Interval, mean_known, worst_known
from edge_sser.train.evaluate.predictions import Prediction
from edge_sser.train.evaluate.score_table import Mask, ScoreTable
from edge_sser.train.evaluate.scores import FoldScores, fold_scores
from edge_sser.train.evaluate.speaker_bootstrap import auroc_interval, ua_interval
from edge_sser.train.references.result_files import Kind, Result, ResultGroup
from edge_sser.train.references.run import stress_probability

PRESETS = ("quadrant", "sssr")


@dataclass(frozen=True, slots=True)
class StressScores:
    """Stress under one preset; fractions 0..1.

    Attributes:
        auroc: mean over folds and seeds.
        worst: of the worst fold.
        interval: 95 % over speakers, of all clips of the first seed on one scale.
        uar: of the decision at calibrated probability 0.5, mean over folds and seeds.
    """

    auroc: float
    worst: float
    interval: Interval
    uar: float


@dataclass(frozen=True, slots=True)
class CorpusScores:
    """Scores of one system on one corpus; fractions 0..1, means over folds and seeds.

    Attributes:
        corpus: its name.
        folds: that are scored.
        clips: number of clips.
        ua: unweighted accuracy of the emotions.
        ua_worst: of the worst fold.
        ua_interval: 95 % over speakers, of all clips of the first seed.
        wa: weighted accuracy, the share of clips that are right.
        macro_f1: mean F1 of the emotions.
        stress: by preset.
    """

    corpus: str
    folds: tuple[int, ...]
    clips: int
    ua: float
    ua_worst: float
    ua_interval: Interval
    wa: float
    macro_f1: float
    stress: Mapping[str, StressScores]


@dataclass(frozen=True, slots=True)
class ComparedSystem:
    """One row of the comparison.

    Attributes:
        group: its results.
        results: of each seed.
        tables: predictions of each seed, by preset.
        corpora: scores by corpus.
        folds: that are scored, where these are not all.
    """

    group: ResultGroup
    results: Sequence[Result]
    tables: Sequence[Mapping[str, ScoreTable]]
    corpora: Mapping[str, CorpusScores]
    folds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name with the folds, if these are not all, and with the corpus, if it was trained on that alone."""
        alone = [f"{self.results[0].variant} alone"] if self.results[0].variant else []
        return with_remarks(self.group.name, [*fold_words(self.folds), *alone])


@dataclass(frozen=True, slots=True)
class LeakyPair:
    """One system on one corpus under the protocol of its original and under ours.

    Attributes:
        group: its results.
        leaky: scores under the original protocol.
        honest: scores on speakers that were not trained on.
        alone: True when both were trained on the same corpora; False when the honest one was trained on more.
        folds: of the honest scores, where these are not all.
    """

    group: ResultGroup
    leaky: CorpusScores
    honest: CorpusScores
    alone: bool
    folds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name with what the honest scores lack, or have beyond the leaky ones."""
        return with_remarks(
            self.group.name, [*fold_words(self.folds), *([] if self.alone else ["honest: all corpora"])]
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """All systems, ours also on the folds of each incomplete reference, and the leaky beside the honest ones."""

    systems: Sequence[ComparedSystem]
    leaky: Sequence[LeakyPair]


def compare(groups: Sequence[ResultGroup], *, draws: int = DRAWS) -> Comparison:
    """Scores all systems, and ours again on the folds of each incomplete reference.

    Args:
        groups: results by system.
        draws: of the bootstrap.
    """
    runs = [(group, results) for group in groups for results in _runs(group)]
    every = _folds(result for _, results in runs for result in results)
    systems = [_system(group, results, every, draws) for group, results in runs]
    pairs = [pair for group in groups for pair in _leaky(group, systems, every, draws)]
    beside: dict[tuple[int, ...], set[str]] = {}  # corpora of the incomplete references, by their folds
    for each in systems:
        if each.group.kind is Kind.REFERENCE and each.folds:
            beside.setdefault(each.folds, set()).update(each.corpora)
    again = [
        replace(ours, corpora=_scores(ours.tables, draws, folds, beside[folds]), folds=folds)
        for ours in systems
        if ours.group.kind is Kind.OURS and not ours.folds
        for folds in sorted(beside)
    ]
    return Comparison([*systems, *again], pairs)


def stress_under(predictions: Sequence[Prediction], own: str, preset: Preset) -> Sequence[Prediction]:
    """Returns predictions with stress under a preset.

    Stress under another preset than a system's own is the probability of the preset's stress emotions, of all that it
    maps.

    Args:
        predictions: of one system.
        own: preset that their stress was trained or computed for.
        preset: the wanted one.
    """
    if preset.name == own:
        return predictions
    shares = stress_probability(np.array([each.emotions for each in predictions]), preset.name)
    return [replace(each, stress=float(share)) for each, share in zip(predictions, shares, strict=True)]


def _tables(result: Result) -> dict[str, ScoreTable]:
    return {name: _table(result, read_preset(name)) for name in PRESETS}


def _table(result: Result, preset: Preset) -> ScoreTable:
    """Returns predictions under a preset; a corpus that was not trained on does not calibrate the others."""
    predictions = stress_under(result.predictions, result.origin.preset, preset)
    table = ScoreTable(predictions, preset)
    known = [result.origin.trained_on is None or each.corpus in result.origin.trained_on for each in predictions]
    if any(known) and not all(known):
        alone = ScoreTable([each for each, inside in zip(predictions, known, strict=True) if inside], preset)
        table.probability[np.array(known)] = alone.probability
    return table


def _runs(group: ResultGroup) -> list[Sequence[Result]]:
    """Returns the results to score together: the seeds, or without them each training on one corpus."""
    return [group.honest] if group.honest else [[result] for result in group.alone.values()]


def _system(
    group: ResultGroup, results: Sequence[Result], every: Mapping[str, Collection[int]], draws: int
) -> ComparedSystem:
    tables = [_tables(result) for result in results]
    return ComparedSystem(group, results, tables, _scores(tables, draws), _incomplete(results[0], every))


def _incomplete(result: Result, every: Mapping[str, Collection[int]]) -> tuple[int, ...]:
    """Returns the folds of the corpora that have fewer than in other results; empty for a complete result."""
    own = _folds([result])
    return tuple(sorted({fold for corpus, folds in own.items() if folds != every.get(corpus, folds) for fold in folds}))


def _folds(results: Iterable[Result]) -> dict[str, set[int]]:
    """Returns the folds of each corpus in some results."""
    found: dict[str, set[int]] = {}
    for result in results:
        for each in result.predictions:
            found.setdefault(each.corpus, set()).add(each.fold)
    return found


def _scores(
    tables: Sequence[Mapping[str, ScoreTable]],
    draws: int,
    folds: Collection[int] = (),
    corpora: Collection[str] | None = None,
) -> dict[str, CorpusScores]:
    """Returns scores by corpus, without corpora that have neither emotions nor stress to score."""
    first = tables[0][PRESETS[0]]
    chosen = np.isin(first.fold, list(folds)) if folds else np.ones(first.fold.size, dtype=np.bool_)
    names = sorted(set(first.corpus[chosen & (first.named | first.judged)].tolist()))
    kept = names if corpora is None else [name for name in names if name in corpora]
    found = [corpus_scores(tables, corpus, draws, folds) for corpus in kept]
    return {each.corpus: each for each in found if each.ua == each.ua or each.stress[PRESETS[0]].auroc > 0.0}


def corpus_scores(
    tables: Sequence[Mapping[str, ScoreTable]], corpus: str, draws: int, folds: Collection[int] = ()
) -> CorpusScores:
    """Scores one corpus.

    Args:
        tables: of each seed, by preset.
        corpus: its name.
        draws: of the bootstrap.
        folds: to score; all when empty.
    """
    stress = {preset: _stress([table[preset] for table in tables], corpus, draws, folds) for preset in PRESETS}
    found = _fold_scores([each[PRESETS[0]] for each in tables], corpus, folds)
    first = tables[0][PRESETS[0]]
    inside = _inside(first, corpus, folds)
    named = inside & first.named
    return CorpusScores(
        corpus=corpus,
        folds=tuple(np.unique(first.fold[inside]).tolist()),
        clips=int(inside.sum()),
        ua=mean_known(fold.ua for fold in found),
        ua_worst=worst_known(fold.ua for fold in found),
        ua_interval=ua_interval(first.speaker[named], first.emotion[named], first.decided[named], draws=draws),
        wa=mean_known(fold.wa for fold in found),
        macro_f1=mean_known(fold.macro_f1 for fold in found),
        stress=stress,
    )


def _inside(table: ScoreTable, corpus: str, folds: Collection[int]) -> Mask:
    inside = table.corpus == corpus
    return np.asarray(inside & np.isin(table.fold, list(folds)) if folds else inside)


def _fold_scores(tables: Sequence[ScoreTable], corpus: str, folds: Collection[int]) -> list[FoldScores]:
    return [fold for table in tables for fold in fold_scores(table, _inside(table, corpus, folds))]


def _stress(tables: Sequence[ScoreTable], corpus: str, draws: int, folds: Collection[int]) -> StressScores:
    found = _fold_scores(tables, corpus, folds)
    first = tables[0]
    judged = _inside(first, corpus, folds) & first.judged
    return StressScores(
        auroc=mean_known(fold.auroc for fold in found),
        worst=worst_known(fold.auroc for fold in found),
        interval=auroc_interval(first.speaker[judged], first.stress[judged], first.logits[judged], draws=draws),
        uar=mean_known(fold.uar for fold in found),
    )


def _leaky(
    group: ResultGroup, systems: Sequence[ComparedSystem], every: Mapping[str, Collection[int]], draws: int
) -> list[LeakyPair]:
    if group.original is None:
        return []
    whole = next((system for system in systems if system.group is group and group.honest), None)
    alike = [each for each in group.alone.values() if each.origin.trained_on == group.original.origin.trained_on]
    out = []
    for corpus, leaky in _scores([_tables(group.original)], draws).items():
        result = next((each for each in alike if corpus in _folds([each])), None)
        if result is not None:
            honest = corpus_scores([_tables(result)], corpus, draws)
            out.append(LeakyPair(group, leaky, honest, True, _incomplete(result, every)))
        elif whole is not None and corpus in whole.corpora:
            alone = whole.results[0].origin.trained_on == group.original.origin.trained_on
            out.append(LeakyPair(group, leaky, whole.corpora[corpus], alone, whole.folds))
    return out


def fold_words(folds: Sequence[int]) -> list[str]:
    """Returns the folds in words; nothing for none."""
    return [f"fold{'s' if len(folds) > 1 else ''} {','.join(map(str, folds))}"] if folds else []


def with_remarks(name: str, remarks: Sequence[str]) -> str:
    """Returns a name with remarks in brackets."""
    return f"{name} ({'; '.join(remarks)})" if remarks else name
