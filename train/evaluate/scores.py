"""Headline scores from out-of-fold predictions, for each corpus and fold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_sser.model.calibration import Calibration
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.metrics import (
    NAN,
    auroc,
    expected_calibration_error,
    macro_f1,
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
        clips: number of clips.
        speakers: number of speakers.
        folds: number of folds.
        classes: emotions that are scored; 0 when its clips have none, or all the same one.
        ua: unweighted accuracy over the corpus's own emotions, mean over folds.
        ua_worst: of the worst fold.
        auroc: of stress, mean over folds.
        auroc_worst: of the worst fold.
        auroc_pooled: of stress, all clips on one scale.
        uar: unweighted accuracy of the stress decision at calibrated probability 0.5, mean over folds.
        ece_raw: expected calibration error of stress before calibration, pooled.
        ece: the same after calibration of each fold on the others.
        one_class_folds: folds of stressed or other clips only: without AUROC and UAR, and left out of those means.
        judged: number of clips with a stress label.
        false_alarms: false positive rate of stress at calibrated probability 0.5.
        missed: false negative rate of the same.
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
        """Returns plain values, None for NaN; `judged` and the next two only where AUROC is NaN."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        values["one_class_folds"] = [*self.one_class_folds]
        if not self.one_class_folds:
            del values["one_class_folds"]
        if not math.isnan(self.auroc):
            for name in ("judged", "false_alarms", "missed"):
                del values[name]
        return values

    def remarks(self) -> Iterator[str]:
        """Yields a sentence for each score that the labels do not allow, with figures that they do allow."""
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
    """Scores of all corpora, and a calibration fitted on all out-of-fold predictions.

    Attributes:
        corpora: in alphabetical order.
        calibration: temperature 1 and bias 0 where no corpus has stressed and other clips.
        calibrated: False where no corpus has both.
    """

    corpora: Sequence[Scores]
    calibration: Calibration
    calibrated: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON and the model card."""
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
        preset: of stress.

    Raises:
        SettingsError: there is no such preset.
    """
    return evaluate_table(ScoreTable(predictions, read_preset(preset)))


def evaluate_table(table: ScoreTable) -> Evaluation:
    """Scores the predictions of a table; see `evaluate`."""
    names = sorted(set(table.corpus.tolist()))
    corpora = [_score(corpus, table, table.corpus == corpus) for corpus in names]
    found = table.calibration(table.judged)
    return Evaluation(corpora, found or Calibration(temperature=1.0, bias=0.0), found is not None)


def _score(corpus: str, table: ScoreTable, inside: Mask) -> Scores:
    folds = fold_scores(table, inside)
    judged = inside & table.judged
    stressed, calm = (table.stressed[judged & (table.stress == kind)] for kind in (1, 0))
    return Scores(
        corpus=corpus,
        clips=int(inside.sum()),
        speakers=len(set(table.speaker[inside])),
        folds=len(folds),
        classes=len(set(table.emotion[inside & table.named].tolist())),
        ua=mean_known(fold.ua for fold in folds),
        ua_worst=worst_known(fold.ua for fold in folds),
        auroc=mean_known(fold.auroc for fold in folds),
        auroc_worst=worst_known(fold.auroc for fold in folds),
        auroc_pooled=auroc(table.stress[judged], table.logits[judged]),
        uar=mean_known(fold.uar for fold in folds),
        ece_raw=expected_calibration_error(table.stress[judged], table.raw[judged]),
        ece=expected_calibration_error(table.stress[judged], table.probability[judged]),
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
        speakers: number of speakers.
        clips: number of clips.
        ua: unweighted accuracy of the emotions.
        wa: weighted accuracy of the emotions, the share of clips that are right.
        macro_f1: mean F1 of the emotions.
        auroc: of stress.
        uar: unweighted accuracy of the stress decision.
    """

    fold: int
    speakers: int
    clips: int
    ua: float
    wa: float
    macro_f1: float
    auroc: float
    uar: float


def fold_scores(table: ScoreTable, inside: Mask) -> list[FoldScores]:
    """Scores each fold of the clips in a mask, in the order of the folds."""
    out = []
    for fold in np.unique(table.fold[inside]):
        clips = inside & (table.fold == fold)
        judged = clips & table.judged
        named = clips & table.named
        labels, decided, stress = table.emotion[named], table.decided[named], table.stress[judged]
        out.append(
            FoldScores(
                fold=int(fold),
                speakers=len(set(table.speaker[clips])),
                clips=int(clips.sum()),
                ua=unweighted_accuracy(labels, decided),
                wa=float(np.mean(labels == decided)) if labels.size else NAN,
                macro_f1=macro_f1(labels, decided),
                auroc=auroc(stress, table.logits[judged]),
                uar=uar(stress, table.stressed[judged]),
            )
        )
    return out


def markdown_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Renders the scores of systems as a Markdown table, the systems of a corpus beside each other."""
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
    remarks: dict[tuple[str, str], list[str]] = {}
    for corpus in names:
        for system, evaluation in evaluations.items():
            for scores in evaluation.corpora:
                if scores.corpus == corpus:
                    for remark in scores.remarks():
                        remarks.setdefault((corpus, remark), []).append(system)
    lines += [f"\n{corpus}, {', '.join(systems)}: {remark}" for (corpus, remark), systems in remarks.items()]
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
