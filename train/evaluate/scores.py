"""Scores from predictions, for each corpus, on speakers that the model never heard."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_sser.model.model import Calibration
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.metrics import (
    NAN,
    auroc,
    expected_calibration_error,
    mean_known,
    uar,
    unweighted_accuracy,
    worst_known,
)
from edge_sser.train.evaluate.predictions import Prediction
from edge_sser.train.evaluate.score_table import Mask, ScoreTable

DEFAULT_PRESET = "quadrant"
DASH = "-"

PROTOCOL = (
    "speaker-disjoint folds; each clip scored by the model that heard no clip of its fold; mean of the logits of the "
    "clip's 3 s windows every 0.5 s; clips shorter than a window are repeated; mean over folds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of one corpus; fractions 0..1, NaN where its labels do not allow a score: see `remarks`.

    Attributes:
        corpus: its name.
        clips: how many.
        speakers: how many.
        folds: how many.
        classes: emotions that are scored; 0 when its clips have none, or all the same one.
        ua: unweighted accuracy over the corpus's own emotions, mean over folds.
        ua_worst: of the worst fold.
        auroc: of stress, mean over folds.
        auroc_worst: of the worst fold.
        auroc_pooled: of stress, all clips on one scale.
        uar: unweighted accuracy of the stress decision at calibrated probability 0.5, mean over folds.
        ece_raw: expected calibration error of stress before calibration, pooled.
        ece: after it; temperature and bias of a fold come from the other folds.
        one_class_folds: folds whose clips are all stressed or all not: they have no AUROC and no UAR, and are left out
            of those means.
        judged: clips whose labels say if they are stressed.
        false_alarms: share of the clips that are not stressed and are called so at calibrated probability 0.5.
        missed: share of the stressed clips that are not called so.
    """

    corpus: str
    clips: int
    speakers: int
    folds: int
    classes: int
    ua: float
    ua_worst: float
    auroc: float
    auroc_worst: float
    auroc_pooled: float
    uar: float
    ece_raw: float
    ece: float
    one_class_folds: tuple[int, ...] = ()
    judged: int = 0
    false_alarms: float = NAN
    missed: float = NAN

    def as_dict(self) -> dict[str, Any]:
        """As plain values, None for what cannot be computed; the last ones only where they tell what others do not."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        values["one_class_folds"] = [*self.one_class_folds]
        if not self.one_class_folds:
            del values["one_class_folds"]
        if not math.isnan(self.auroc):
            for name in ("judged", "false_alarms", "missed"):
                del values[name]
        return values

    def remarks(self) -> Iterator[str]:
        """What cannot be computed of the corpus and why, a sentence each, and what can be instead."""
        if not self.classes:
            yield "its clips have no emotion that the model knows, or all the same one: there is no UA"
        if not self.judged:
            yield "no label of its clips says under this preset if they are stressed: no score of stress"
        elif not math.isnan(self.missed) and math.isnan(self.false_alarms):
            yield f"all its judged clips are stressed: there is no AUROC and no UAR; {100 * self.missed:.1f} % missed"
        elif not math.isnan(self.false_alarms) and math.isnan(self.missed):
            yield (
                "none of its judged clips is stressed: there is no AUROC and no UAR; "
                f"{100 * self.false_alarms:.1f} % of them are called stressed (false alarms)"
            )
        elif math.isnan(self.auroc):
            yield "each fold has stressed clips only, or none: AUROC stands over all its clips alone"
        elif self.one_class_folds:
            folds = ", ".join(map(str, self.one_class_folds))
            yield f"fold {folds} has clips of one stress class only, so AUROC and UAR are means without it"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of all corpora, and the calibration that all out-of-fold predictions together give.

    Attributes:
        corpora: in alphabetical order.
        calibration: temperature 1 and bias 0 where no corpus has stressed and other clips.
        calibrated: whether one has.
    """

    corpora: Sequence[Scores]
    calibration: Calibration
    calibrated: bool = True

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON and the model card."""
        return {
            "protocol": PROTOCOL,
            "calibration": {
                "temperature": round(self.calibration.temperature, 4),
                "bias": round(self.calibration.bias, 4),
            },
            "corpora": [scores.as_dict() for scores in self.corpora],
        }


def evaluate(predictions: Sequence[Prediction], preset: str = DEFAULT_PRESET) -> Evaluation:
    """Scores out-of-fold predictions.

    Args:
        predictions: of any corpora.
        preset: how emotions become stress; see presets.py.

    Raises:
        SettingsError: there is no such preset.
    """
    return evaluate_columns(ScoreTable(predictions, read_preset(preset)))


def evaluate_columns(columns: ScoreTable) -> Evaluation:
    """Scores predictions that are columns already; see `evaluate`."""
    names = sorted(set(columns.corpus.tolist()))
    corpora = [_score(corpus, columns, columns.corpus == corpus) for corpus in names]
    found = columns.calibration(columns.judged)
    return Evaluation(corpora, found or Calibration(temperature=1.0, bias=0.0), found is not None)


def _score(corpus: str, columns: ScoreTable, inside: Mask) -> Scores:
    folds = fold_scores(columns, inside)
    judged = inside & columns.judged
    stressed, calm = (columns.stressed[judged & (columns.stress == kind)] for kind in (1, 0))
    return Scores(
        corpus=corpus,
        clips=int(inside.sum()),
        speakers=len(set(columns.speaker[inside])),
        folds=len(folds),
        classes=len(set(columns.emotion[inside & columns.named].tolist())),
        ua=mean_known(fold.ua for fold in folds),
        ua_worst=worst_known(fold.ua for fold in folds),
        auroc=mean_known(fold.auroc for fold in folds),
        auroc_worst=worst_known(fold.auroc for fold in folds),
        auroc_pooled=auroc(columns.stress[judged], columns.logits[judged]),
        uar=mean_known(fold.uar for fold in folds),
        ece_raw=expected_calibration_error(columns.stress[judged], columns.raw[judged]),
        ece=expected_calibration_error(columns.stress[judged], columns.probability[judged]),
        one_class_folds=tuple(fold.fold for fold in folds if math.isnan(fold.auroc)),
        judged=int(judged.sum()),
        false_alarms=mean_known(calm.tolist()),
        missed=mean_known((1 - stressed).tolist()),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value


@dataclass(frozen=True, slots=True)
class FoldScores:
    """Scores of one fold of a corpus; fractions 0..1, NaN where its clips are of one class only or of none.

    Attributes:
        fold: its number.
        speakers: how many.
        clips: how many.
        ua: unweighted accuracy of the emotions.
        auroc: of stress.
        uar: unweighted accuracy of the stress decision.
    """

    fold: int
    speakers: int
    clips: int
    ua: float
    auroc: float
    uar: float


def fold_scores(columns: ScoreTable, inside: Mask) -> list[FoldScores]:
    """Scores of each fold of the clips inside, in the order of the folds."""
    out = []
    for fold in np.unique(columns.fold[inside]):
        clips = inside & (columns.fold == fold)
        judged = clips & columns.judged
        named = clips & columns.named
        stress = columns.stress[judged]
        out.append(
            FoldScores(
                fold=int(fold),
                speakers=len(set(columns.speaker[clips])),
                clips=int(clips.sum()),
                ua=unweighted_accuracy(columns.emotion[named], columns.decided[named]),
                auroc=auroc(stress, columns.logits[judged]),
                uar=uar(stress, columns.stressed[judged]),
            )
        )
    return out


def table(evaluations: Mapping[str, Evaluation]) -> str:
    """Scores of one or more systems as a Markdown table, the systems of a corpus beside each other."""
    lines = [
        "| corpus | clips / speakers / folds | system | UA % (worst fold) | stress AUROC (worst fold) | pooled | "
        "stress UAR % | ECE raw -> calibrated |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = sorted({scores.corpus for evaluation in evaluations.values() for scores in evaluation.corpora})
    for corpus in names:
        for system, evaluation in evaluations.items():
            for scores in evaluation.corpora:
                if scores.corpus != corpus:
                    continue
                lines.append(
                    f"| {corpus} | {scores.clips} / {scores.speakers} / {scores.folds} | {system} "
                    f"| {_emotions(scores)} | {_figure(scores.auroc)}{_worst(scores.auroc_worst)} "
                    f"| {_figure(scores.auroc_pooled)} | {_percent(scores.uar)} "
                    f"| {_figure(scores.ece_raw)} -> {_figure(scores.ece)} |"
                )
    told: dict[tuple[str, str], list[str]] = {}
    for corpus in names:
        for system, evaluation in evaluations.items():
            for scores in evaluation.corpora:
                if scores.corpus == corpus:
                    for remark in scores.remarks():
                        told.setdefault((corpus, remark), []).append(system)
    lines += [f"\n{corpus}, {', '.join(systems)}: {remark}" for (corpus, remark), systems in told.items()]
    lines += [
        f"\n{system}: its probabilities are not calibrated: no corpus has stressed and other clips"
        for system, evaluation in evaluations.items()
        if not evaluation.calibrated
    ]
    return "\n".join(lines)


def _emotions(scores: Scores) -> str:
    if not scores.classes:
        return DASH
    return f"{_percent(scores.ua)} ({_percent(scores.ua_worst)}), {scores.classes} classes"


def _figure(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.3f}"


def _worst(value: float) -> str:
    return "" if math.isnan(value) else f" ({value:.3f})"


def _percent(value: float) -> str:
    return DASH if math.isnan(value) else f"{100 * value:.1f}"
