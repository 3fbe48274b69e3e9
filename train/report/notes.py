"""What a reader must know before any figure."""

from __future__ import annotations

from collections.abc import Sequence

from ..battery.systems import Scored
from ..origin import Baseline, Origin


def notes(scored: Sequence[Scored], audio: Origin | None) -> list[str]:
    """Remarks on systems, their predictions and what stands beside them.

    Args:
        scored: all systems, baselines included.
        audio: what makes the figures that need audio; None when there are none.
    """
    out = []
    for origin in dict.fromkeys([*(one.origin for one in scored), *([audio] if audio else [])]):
        if origin.heard:
            out.append(
                f"{origin.label} heard the speakers of {', '.join(origin.heard)} in training: its figures on them, "
                "robustness and alarms included, say nothing of strangers."
            )
    for one in scored:
        for scores in one.evaluation.corpora:
            if scores.one_class_folds:
                folds = ", ".join(map(str, scores.one_class_folds))
                out.append(
                    f"{one.origin.label} on {scores.corpus}: fold {folds} has clips of one stress class only, so AUROC "
                    "and UAR are means without it."
                )
    corpora = sorted({scores.corpus for one in scored for scores in one.evaluation.corpora})
    for baseline in (Baseline.LEVEL, Baseline.LEVEL_PITCH):
        has = {s.corpus for one in scored if one.origin.system == baseline for s in one.evaluation.corpora}
        lacking = [corpus for corpus in corpora if corpus not in has]
        if lacking:
            out.append(
                f"No {baseline.value} predictions were given for {', '.join(lacking)}: make them with edge-sser train "
                "baseline and add them with --predictions."
            )
    unknown = sorted({corpus for one in scored for corpus in corpora if not _has_sexes(one, corpus)})
    if unknown:
        out.append(f"The speakers' sex is not known in {', '.join(unknown)}: women and men cannot be compared there.")
    return out


def _has_sexes(one: Scored, corpus: str) -> bool:
    inside = one.columns.corpus == corpus
    return not inside.any() or {"F", "M"} <= set(one.columns.sex[inside].tolist())
