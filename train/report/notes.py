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
    out = heard_notes([*(one.origin for one in scored), *([audio] if audio else [])])
    for one in scored:
        for scores in one.evaluation.corpora:
            out += [f"{one.origin.label} on {scores.corpus}: {remark}." for remark in scores.remarks()]
        if not one.evaluation.calibrated:
            out.append(
                f"{one.origin.label}: its probabilities are not calibrated: no corpus has stressed and other clips."
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
    unknown = [corpus for corpus in corpora if not any(_has_sexes(one, corpus) for one in scored)]
    if unknown:
        out.append(f"The speakers' sex is not known in {', '.join(unknown)}: women and men cannot be compared there.")
    return out


def _has_sexes(one: Scored, corpus: str) -> bool:
    return {"F", "M"} <= set(one.table.sex[one.table.corpus == corpus].tolist())
