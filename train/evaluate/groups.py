"""Fairness: figures for each speaker, sex and intensity, and the gaps between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.metrics import (
    NAN,
    PRECISION_GAP,
    RECALL_GAP,
    UAR_GAP,
    Check,
    Floats,
    Labels,
    Sense,
    auroc,
    confusion,
    precisions,
    recalls,
    uar,
    unweighted_accuracy,
)
from edge_sser.train.evaluate.score_table import Mask, ScoreTable

MIN_CLIPS = 10  # of a speaker whose figures are held to a limit


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of the clips of one speaker or sex; fractions 0..1, NaN where a figure needs a class that is missing.

    Attributes:
        name: of the speaker, or F and M.
        clips: number of clips.
        ua: unweighted accuracy of the emotions.
        auroc: of stress.
        uar: unweighted accuracy of the stress decision.
    """

    name: str
    clips: int
    ua: float
    auroc: float
    uar: float


@dataclass(frozen=True, slots=True)
class Gaps:
    """Groups, and the gaps between their figures.

    Attributes:
        groups: in alphabetical order.
        checks: the gaps with their limits.
    """

    groups: Sequence[Group]
    checks: Sequence[Check]


def by_sex(table: ScoreTable, inside: Mask) -> Gaps | None:
    """Compares women with men; None unless both are known."""
    names = [name for name in ("F", "M") if (table.sex[inside] == name).any()]
    if len(names) < 2:
        return None
    masks = [inside & (table.sex == name) for name in names]
    groups = [_group(name, table, mask) for name, mask in zip(names, masks, strict=True)]
    women, men = (_matrix(table, mask) for mask in masks)
    stress_women, stress_men = (_stress_matrix(table, mask) for mask in masks)
    found = (
        ("UA gap of the emotions", abs(groups[0].ua - groups[1].ua), UAR_GAP),
        ("largest recall gap of an emotion", _largest(recalls(women), recalls(men)), RECALL_GAP),
        ("largest precision gap of an emotion", _largest(precisions(women), precisions(men)), PRECISION_GAP),
        ("UAR gap of stress", abs(groups[0].uar - groups[1].uar), UAR_GAP),
        ("recall gap of stress", _largest(recalls(stress_women), recalls(stress_men)), RECALL_GAP),
        ("precision gap of stress", _largest(precisions(stress_women), precisions(stress_men)), PRECISION_GAP),
    )
    return Gaps(groups, [_at_most(*gap) for gap in found])


def by_speaker(table: ScoreTable, inside: Mask) -> Gaps:
    """Compares each speaker with all together: the largest distance of a speaker's figure below the overall one.

    Speakers with fewer than `MIN_CLIPS` clips are listed and not held to a limit; recall and precision of stress are
    compared for speakers with stressed and other clips only.
    """
    names = sorted(set(table.speaker[inside].tolist()))
    masks = [inside & (table.speaker == name) for name in names]
    groups = [_group(name, table, mask) for name, mask in zip(names, masks, strict=True)]
    overall = _group("all", table, inside)
    known = [group for group in groups if group.clips >= MIN_CLIPS]
    both = [
        mask for mask, group in zip(masks, groups, strict=True) if group.clips >= MIN_CLIPS and not np.isnan(group.uar)
    ]
    overall_matrix = _stress_matrix(table, inside)
    matrices = [_stress_matrix(table, mask) for mask in both]
    return Gaps(
        groups,
        [
            _at_most("UA of the emotions, worst speaker", _below(overall.ua, [group.ua for group in known]), UAR_GAP),
            _at_most("UAR of stress, worst speaker", _below(overall.uar, [group.uar for group in known]), UAR_GAP),
            _at_most(
                "recall of stress, worst speaker",
                _below(recalls(overall_matrix)[1], [recalls(matrix)[1] for matrix in matrices]),
                RECALL_GAP,
            ),
            _at_most(
                "precision of stress, worst speaker",
                _below(precisions(overall_matrix)[1], [precisions(matrix)[1] for matrix in matrices]),
                PRECISION_GAP,
            ),
        ],
    )


def _group(name: str, table: ScoreTable, mask: Mask) -> Group:
    judged, named = mask & table.judged, mask & table.named
    stress = table.stress[judged]
    return Group(
        name=name,
        clips=int(mask.sum()),
        ua=unweighted_accuracy(table.emotion[named], table.decided[named]),
        auroc=auroc(stress, table.logits[judged]),
        uar=uar(stress, table.stressed[judged]),
    )


def _matrix(table: ScoreTable, mask: Mask) -> Labels:
    """Returns the confusion matrix over all of EMOTIONS; rows of emotions that the corpus lacks are empty."""
    named = mask & table.named
    return confusion(table.emotion[named], table.decided[named], table.emotions.shape[1])


def _stress_matrix(table: ScoreTable, mask: Mask) -> Labels:
    judged = mask & table.judged
    return confusion(table.stress[judged], table.stressed[judged], 2)


def _largest(first: Floats, second: Floats) -> float:
    gaps = np.abs(first - second)
    return float(np.nanmax(gaps)) if not np.isnan(gaps).all() else NAN


def _below(overall: float, parts: Sequence[float]) -> float:
    known = [overall - part for part in parts if not np.isnan(part)]
    return float(max(known)) if known else NAN


def _at_most(name: str, value: float, limit: float) -> Check:
    return Check(name, value, Sense.AT_MOST, limit)


@dataclass(frozen=True, slots=True)
class Rise:
    """Mean calibrated stress, 0..1, at either intensity: it should rise from normal to strong.

    Attributes:
        emotion: its name, or `all` for the mean over emotions that have both intensities.
        normal: of clips acted with normal intensity.
        strong: of clips acted strongly.
        speakers: share of the speakers whose mean rises, 0..1.
    """

    emotion: str
    normal: float
    strong: float
    speakers: float

    @property
    def passed(self) -> bool:
        """True when stress rises."""
        return self.strong > self.normal


def intensity_rises(table: ScoreTable, inside: Mask) -> Sequence[Rise]:
    """Returns the rise of all emotions together, then of each; empty when the corpus has no two intensities."""
    normal, strong = (inside & (table.intensity == name) for name in ("normal", "strong"))
    both = [place for place in range(len(EMOTIONS)) if _has(table, normal, place) and _has(table, strong, place)]
    if not both:
        return []
    rises = [_rise(EMOTIONS[place], table, normal, strong, table.emotion == place) for place in both]
    # An emotion acted at one intensity only (neutral) would bias the mean.
    return [_rise("all", table, normal, strong, np.isin(table.emotion, both)), *rises]


def _rise(emotion: str, table: ScoreTable, normal: Mask, strong: Mask, chosen: Mask) -> Rise:
    stress = table.probability
    speakers = [table.speaker == name for name in np.unique(table.speaker[chosen & (normal | strong)])]
    rising = [
        float(stress[chosen & strong & own].mean() > stress[chosen & normal & own].mean())
        for own in speakers
        if (chosen & strong & own).any() and (chosen & normal & own).any()
    ]
    return Rise(
        emotion,
        normal=float(stress[chosen & normal].mean()),
        strong=float(stress[chosen & strong].mean()),
        speakers=float(np.mean(rising)) if rising else float("nan"),
    )


def _has(table: ScoreTable, mask: Mask, place: int) -> bool:
    return bool((table.emotion[mask] == place).any())
