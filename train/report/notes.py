"""Remarks that a reader needs before any figure."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sser.train.evaluate.predictions import Baseline, Origin
from edge_sser.train.evaluate.systems import Scored


def heard_notes(origins: Sequence[Origin]) -> list[str]:
    """Returns a remark for each system that was scored on speakers it heard in training."""
    return [
        f"{origin.label} heard the speakers of {', '.join(origin.heard)} in training: its figures on them, "
        "robustness and alarms included, say nothing of strangers."
        for origin in dict.fromkeys(origins)
        if origin.heard
    ]


def notes(scored: Sequence[Scored], audio: Origin | None) -> list[str]:
    """Returns remarks on systems, their predictions and missing baselines.

    Args:
        scored: all systems, baselines included.
        audio: what makes the figures that need audio; None when there are none.
    """
    out = heard_notes([*(each.origin for each in scored), *([audio] if audio else [])])
    for each in scored:
        for scores in each.evaluation.corpora:
            out += [f"{each.origin.label} on {scores.corpus}: {remark}." for remark in scores.remarks()]
        if not each.evaluation.calibrated:
            out.append(
                f"{each.origin.label}: its probabilities are not calibrated: no corpus has stressed and other clips."
            )
    corpora = sorted({scores.corpus for each in scored for scores in each.evaluation.corpora})
    for baseline in (Baseline.LEVEL, Baseline.LEVEL_PITCH):
        has = {s.corpus for each in scored if each.origin.system == baseline for s in each.evaluation.corpora}
        lacking = [corpus for corpus in corpora if corpus not in has]
        if lacking:
            out.append(
                f"No {baseline.value} predictions were given for {', '.join(lacking)}: make them with edge-sser train "
                "baseline and add them with --predictions."
            )
    unknown = [corpus for corpus in corpora if not any(_has_sexes(each, corpus) for each in scored)]
    if unknown:
        out.append(f"The speakers' sex is not known in {', '.join(unknown)}: women and men cannot be compared there.")
    return out


def _has_sexes(each: Scored, corpus: str) -> bool:
    return {"F", "M"} <= set(each.table.sex[each.table.corpus == corpus].tolist())
