"""Whether a system serves everybody alike: figures for each speaker and sex, and the gaps between them."""

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

MIN_CLIPS = 10  # of a speaker whose figures are held to a limit: one clip is 0 or 1


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of the clips of one speaker or sex; fractions 0..1, NaN where a figure needs a class that is missing.

    Attributes:
        name: of the speaker, or F and M.
        clips: how many.
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
    """Groups, and how far they are apart.

    Attributes:
        groups: in alphabetical order.
        checks: the gaps with their limits.
    """

    groups: Sequence[Group]
    checks: Sequence[Check]


def by_sex(columns: ScoreTable, inside: Mask) -> Gaps | None:
    """Women against men; None when only one sex, or none, is known."""
    names = [name for name in ("F", "M") if (columns.sex[inside] == name).any()]
    if len(names) < 2:
        return None
    masks = [inside & (columns.sex == name) for name in names]
    groups = [_group(name, columns, mask) for name, mask in zip(names, masks, strict=True)]
    women, men = (_matrix(columns, mask) for mask in masks)
    stress_women, stress_men = (_stress_matrix(columns, mask) for mask in masks)
    found = (
        ("UA gap of the emotions", abs(groups[0].ua - groups[1].ua), UAR_GAP),
        ("largest recall gap of an emotion", _largest(recalls(women), recalls(men)), RECALL_GAP),
        ("largest precision gap of an emotion", _largest(precisions(women), precisions(men)), PRECISION_GAP),
        ("UAR gap of stress", abs(groups[0].uar - groups[1].uar), UAR_GAP),
        ("recall gap of stress", _largest(recalls(stress_women), recalls(stress_men)), RECALL_GAP),
        ("precision gap of stress", _largest(precisions(stress_women), precisions(stress_men)), PRECISION_GAP),
    )
    return Gaps(groups, [_at_most(*gap) for gap in found])


def by_speaker(columns: ScoreTable, inside: Mask) -> Gaps:
    """Each speaker against all of them: the largest distance that a speaker's figure falls below the whole's.

    Speakers with fewer than `MIN_CLIPS` clips are listed and not held to a limit; recall and precision of stress are
    compared for speakers with stressed and other clips only.
    """
    names = sorted(set(columns.speaker[inside].tolist()))
    masks = [inside & (columns.speaker == name) for name in names]
    groups = [_group(name, columns, mask) for name, mask in zip(names, masks, strict=True)]
    whole = _group("all", columns, inside)
    known = [group for group in groups if group.clips >= MIN_CLIPS]
    both = [
        mask for mask, group in zip(masks, groups, strict=True) if group.clips >= MIN_CLIPS and not np.isnan(group.uar)
    ]
    everybody = _stress_matrix(columns, inside)
    matrices = [_stress_matrix(columns, mask) for mask in both]
    return Gaps(
        groups,
        [
            _at_most("UA of the emotions, worst speaker", _below(whole.ua, [group.ua for group in known]), UAR_GAP),
            _at_most("UAR of stress, worst speaker", _below(whole.uar, [group.uar for group in known]), UAR_GAP),
            _at_most(
                "recall of stress, worst speaker",
                _below(recalls(everybody)[1], [recalls(matrix)[1] for matrix in matrices]),
                RECALL_GAP,
            ),
            _at_most(
                "precision of stress, worst speaker",
                _below(precisions(everybody)[1], [precisions(matrix)[1] for matrix in matrices]),
                PRECISION_GAP,
            ),
        ],
    )


def _group(name: str, columns: ScoreTable, mask: Mask) -> Group:
    judged, named = mask & columns.judged, mask & columns.named
    stress = columns.stress[judged]
    return Group(
        name=name,
        clips=int(mask.sum()),
        ua=unweighted_accuracy(columns.emotion[named], columns.decided[named]),
        auroc=auroc(stress, columns.logits[judged]),
        uar=uar(stress, columns.stressed[judged]),
    )


def _matrix(columns: ScoreTable, mask: Mask) -> Labels:
    """Confusion over all of EMOTIONS; those that the corpus lacks are empty."""
    named = mask & columns.named
    return confusion(columns.emotion[named], columns.decided[named], columns.emotions.shape[1])


def _stress_matrix(columns: ScoreTable, mask: Mask) -> Labels:
    judged = mask & columns.judged
    return confusion(columns.stress[judged], columns.stressed[judged], 2)


def _largest(first: Floats, second: Floats) -> float:
    gaps = np.abs(first - second)
    return float(np.nanmax(gaps)) if not np.isnan(gaps).all() else NAN


def _below(whole: float, parts: Sequence[float]) -> float:
    known = [whole - part for part in parts if not np.isnan(part)]
    return float(max(known)) if known else NAN


def _at_most(name: str, value: float, limit: float) -> Check:
    return Check(name, value, Sense.AT_MOST, limit)


@dataclass(frozen=True, slots=True)
class Rise:
    """Mean calibrated stress, 0..1, at either intensity.

    Attributes:
        emotion: its name, or `all` for the mean over emotions that have both intensities.
        normal: of clips acted with normal intensity.
        strong: of clips acted strongly.
        speakers: share of the speakers whose own mean rises, 0..1.
    """

    emotion: str
    normal: float
    strong: float
    speakers: float

    @property
    def passed(self) -> bool:
        """Whether it rises."""
        return self.strong > self.normal


def ordinal(columns: ScoreTable, inside: Mask) -> Sequence[Rise]:
    """All emotions together, then each; empty when the corpus has no two intensities."""
    normal, strong = (inside & (columns.intensity == name) for name in ("normal", "strong"))
    both = [place for place in range(len(EMOTIONS)) if _of(columns, normal, place) and _of(columns, strong, place)]
    if not both:
        return []
    rises = [_rise(EMOTIONS[place], columns, normal, strong, columns.emotion == place) for place in both]
    # An emotion that is acted at one intensity only (neutral) would tip the balance.
    return [_rise("all", columns, normal, strong, np.isin(columns.emotion, both)), *rises]


def _rise(emotion: str, columns: ScoreTable, normal: Mask, strong: Mask, chosen: Mask) -> Rise:
    stress = columns.probability
    speakers = [columns.speaker == name for name in np.unique(columns.speaker[chosen & (normal | strong)])]
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


def _of(columns: ScoreTable, mask: Mask, place: int) -> bool:
    return bool((columns.emotion[mask] == place).any())
