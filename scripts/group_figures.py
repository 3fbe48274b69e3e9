"""Prints how the models that ship judge women, men, single emotions, arousal and valence, as three Markdown tables.

    python scripts/group_figures.py

From the committed predictions of speakers that the scored network never heard; "called stressed" at the calibration of
the card, as on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_sser.model.affect import EmotionAxis
from edge_sser.model.card_file import card_of
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.affect import AROUSAL, VALENCE, EmotionGroups, fit_axis, judge_axis
from edge_sser.train.evaluate.groups import by_sex, by_speaker
from edge_sser.train.evaluate.metrics import auroc, calibrated, expected_calibration_error, mean_known
from edge_sser.train.evaluate.predictions import Prediction, read_predictions
from edge_sser.train.evaluate.score_table import ScoreTable

RESULTS = Path(__file__).parents[1] / "docs" / "results"
NAMES = ("sser-plus", "sser-cnn")
OTHERS = ("whisper-base", "references/encoder-svm-tiny", "references/egemaps-svm")
CORPORA = ("ravdess", "nemo", "indian-emospeech", "spanish")
GROUPS = (("happy", "surprised"), ("sad",), ("calm", "neutral"), ("angry", "fearful"))
STRESSED, LIVELY = GROUPS[-1], GROUPS[0]
FOLDS = range(1, 7)


def sexes(name: str) -> str:
    """Returns the row of a model: figures by sex, and AUROC against happy and surprised clips.

    UA, stress AUROC of all clips together, and the mean over speakers of each speaker's AUROC, which a difference
    between the networks of two folds does not lower.
    """
    items = read_predictions(RESULTS / f"{name}.csv")
    table = ScoreTable(items, read_preset("quadrant"))
    cells = []
    for corpus in ("ravdess", "nemo"):
        inside = table.corpus == corpus
        gaps = by_sex(table, inside)
        assert gaps is not None
        women, men = gaps.groups
        own = [
            mean_known([group.auroc for group in by_speaker(table, inside & (table.sex == sex)).groups]) for sex in "FM"
        ]
        cells.append(f"{100 * women.ua:.1f}, {100 * men.ua:.1f}")
        cells += [f"{_short(first)}, {_short(second)}" for first, second in ((women.auroc, men.auroc), own)]
    folds = [_against_lively(items, fold) for fold in sorted({item.fold for item in items if item.corpus == "ravdess"})]
    return f"| {Path(name).name} | {' | '.join(cells)} | {_short(float(np.mean(folds)))} ({_short(min(folds))}) |"


def called_stressed(name: str) -> list[str]:
    """Returns the rows of a model: clips of each corpus that are called stressed, %, by emotion."""
    calibration = card_of(Path(name)).calibration
    items = read_predictions(RESULTS / f"{name}.csv") + read_predictions(RESULTS / f"{name}.spanish.csv")
    logits = ScoreTable(items, read_preset("quadrant")).logits
    called = np.array([calibration.log_odds(float(logit)) >= 0.0 for logit in logits])
    out = []
    for corpus in CORPORA:
        cells = []
        for group in GROUPS:
            inside = np.array([item.corpus == corpus and item.emotion in group for item in items])
            cells.append(f"{100 * called[inside].mean():.0f}" if inside.any() else "-")
        out.append(f"| {corpus} | {name} | {' | '.join(cells)} |")
    return out


def axes(name: str) -> list[str]:
    """Returns the rows of a model: AUROC (worst fold) and ECE of arousal and valence.

    Calibrated on the other folds; for the corpus that nobody trained on, as the card is.
    """
    items = read_predictions(RESULTS / f"{name}.csv")
    card = card_of(Path(name))
    out = []
    for corpus in CORPORA:
        cells = []
        for groups, axis in ((AROUSAL, card.arousal), (VALENCE, card.valence)):
            if corpus == "spanish":
                parts = [(read_predictions(RESULTS / f"{name}.spanish.csv"), axis)]
            else:
                own = {fold: [item for item in items if (item.corpus, item.fold) == (corpus, fold)] for fold in FOLDS}
                others = {fold: [item for item in items if item.fold != fold] for fold in FOLDS}
                parts = [(own[fold], fit_axis(others[fold], groups)) for fold in FOLDS if own[fold]]
            cells.append(_axis_cell(parts, groups))
        out.append(f"| {corpus} | {name} | {' | '.join(cells)} |")
    return out


def _axis_cell(parts: Sequence[tuple[Sequence[Prediction], EmotionAxis | None]], groups: EmotionGroups) -> str:
    areas, labels, probabilities = [], [], []
    for clips, axis in parts:
        assert axis is not None
        _, own, log_odds = judge_axis(clips, groups)
        areas.append(auroc(own, log_odds))
        labels.append(own)
        probabilities.append(calibrated(log_odds, axis.calibration))
    error = expected_calibration_error(np.concatenate(labels), np.concatenate(probabilities))
    known = [area for area in areas if not np.isnan(area)]
    worst = f" ({_short(min(known))})" if len(areas) > 1 else ""
    return f"{_short(mean_known(known))}{worst} | {_short(error)}"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _against_lively(items: Sequence[Prediction], fold: int) -> float:
    chosen = [item for item in items if item.corpus == "ravdess" and item.fold == fold]
    chosen = [item for item in chosen if item.emotion in (*STRESSED, *LIVELY)]
    labels = np.array([int(item.emotion in STRESSED) for item in chosen])
    return auroc(labels, np.array([item.stress for item in chosen]))


def together(name: str) -> str:
    """Returns a model's calibration error over all corpora, as calibrated on the other folds, in words."""
    table = ScoreTable(read_predictions(RESULTS / f"{name}.csv"), read_preset("quadrant"))
    judged = table.judged & (table.corpus != "librispeech")
    return f"{name} {_short(expected_calibration_error(table.stress[judged], table.probability[judged]))}"


if __name__ == "__main__":
    print("| women, men | RAVDESS UA % | AUROC | a speaker | nEMO UA % | AUROC | a speaker | RAVDESS against lively |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(map(sexes, (*NAMES, *OTHERS))))
    print(f"\n| called stressed, % | | {' | '.join(', '.join(group) for group in GROUPS)} |\n|---|---|---|---|---|---|")
    print("\n".join(row for name in NAMES for row in called_stressed(name)))
    print("\n| | | arousal, AUROC | ECE | valence, AUROC | ECE |\n|---|---|---|---|---|---|")
    print("\n".join(row for name in NAMES for row in axes(name)))
    print(f"\nECE of stress over RAVDESS, nEMO and Indian EmoSpeech together: {', '.join(map(together, NAMES))}.")
