"""Adapts a model file to a site: re-fits its stress head and calibration on the site's labelled clips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import ModelError, TrainingError, UsageError
from edge_sser.files import write_file
from edge_sser.model.calibration import Calibration
from edge_sser.model.card import CARD_KEY, Card
from edge_sser.model.model import Model
from edge_sser.model.shipped import trainable_file
from edge_sser.settings.schema import Runtime
from edge_sser.train.corpora.table import read_table
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.metrics import (
    Floats,
    Interval,
    auroc,
    bootstrap_speakers,
    fit_calibration,
    has_both_classes,
    mean_known,
)
from edge_sser.train.fit.head import Embedder, Head, find_head, read_head, with_float_head, write_head
from edge_sser.train.fit.site import Clips, deal_folds, embed, usable

Places: TypeAlias = NDArray[np.intp]

DRAWS = 3  # choices of the training speakers, of which the learning curve takes the mean
WORTH_MORE = 0.01  # AUROC of the last doubling that makes another one likely to help
_NOTE = "Its stress head and calibration were fitted to one site; its operating points were not measured again."


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cross-validated figures: each speaker is scored by a head that was not fitted on that speaker.

    Attributes:
        logits: float64 [n], out of fold.
        old: stress AUROC of the old head, mean over the folds.
        new: of the new one.
        gain: new less old.
        curve: number of training speakers and the AUROC that they give; the last has all.
    """

    logits: Floats
    old: Interval
    new: Interval
    gain: Interval
    curve: Sequence[tuple[int, float]]


def adapt(path: Path, table: Path, out: Path, preset: str | None, say: Callable[[str], None]) -> None:
    """Adapts a model file and writes the new one.

    Args:
        path: model file, or the name of a model that ships.
        table: of the site's utterances.
        out: file to write.
        preset: mapping of labels to stress; None: the card's.
        say: prints a line for a person.

    Raises:
        EdgeSserError: an input cannot be used, or the new head is no better than the old one.
    """
    import onnx

    path = trainable_file(path)
    if out.suffix != ".onnx" or out.resolve() == path.resolve():
        raise UsageError(f"--out {out}: expected another file that ends in .onnx")
    loaded = Model.load(path, runtime=Runtime.CPU)
    model = with_float_head(onnx.load(path), loaded.card)
    place = find_head(model, loaded.card, path)
    old = read_head(model, place)
    utterances, labels = usable(read_table(table), read_preset(preset or loaded.card.stress_preset))
    deal_folds(utterances, labels)  # refuses a table before minutes of work
    vote = loaded.card.emotion_vote
    if vote is not None and vote.share == 1.0:
        raise ModelError(f"model {path}: its stress is made of the emotions alone, so that no head can be fitted")
    clips = embed(Embedder(model, loaded.card, place), utterances, labels, vote.share if vote else 0.0)
    found = compare(old, clips)
    for line in report(found, clips, loaded.card):
        say(line)
    if not found.new.value > found.old.value:
        raise TrainingError(
            f"{out} is not written: stress AUROC of held-out speakers is {found.new.value:.3f} with the new head and "
            f"{found.old.value:.3f} with the old one: keep {path.name}, or label clips of more speakers"
        )
    write_head(model, place, clips.fit(old))
    calibration = fit_calibration(found.logits, clips.labels.astype(float), np.ones(clips.labels.size))
    text = adapted_card(loaded, clips, found, calibration).to_json()
    Card.from_json(text)  # refuses what a device would refuse
    (entry,) = [each for each in model.metadata_props if each.key == CARD_KEY]
    entry.value = text
    write_file(out, model.SerializeToString(), ModelError, "choose another --out")
    say(f"written: {out}")


def compare(old: Head, clips: Clips) -> Comparison:
    """Cross-validates the new head over speakers and compares it with the old one."""
    before, after = clips.logits(old), _out_of_fold(old, clips, 1.0, 0)

    def statistics(places: Places) -> tuple[float, float, float]:
        one, other = _auroc(clips, before, places), _auroc(clips, after, places)
        return one, other, other - one

    before_all, after_all, gain = bootstrap_speakers(statistics, clips.speakers)
    everyone = np.arange(clips.labels.size)
    training = len(set(clips.speakers)) * (1.0 - 1.0 / (int(clips.fold.max()) + 1))
    curve = {
        max(1, round(share * training)): float(
            np.mean([_auroc(clips, _out_of_fold(old, clips, share, seed), everyone) for seed in range(DRAWS)])
        )
        for share in (0.25, 0.5)
    }
    curve[max(1, round(training))] = after_all.value
    return Comparison(after, before_all, after_all, gain, tuple(curve.items()))


def _auroc(clips: Clips, scores: Floats, places: Places) -> float:
    """Returns the mean over the folds of the stress AUROC of some clips; NaN where no fold has both classes."""
    by_fold = (places[clips.fold[places] == fold] for fold in range(int(clips.fold.max()) + 1))
    return mean_known(auroc(clips.labels[part], scores[part]) for part in by_fold)


def _out_of_fold(old: Head, clips: Clips, share: float, seed: int) -> Floats:
    """Returns logits of heads that were fitted on a share of the other folds' speakers, float64 [n]."""
    random = np.random.default_rng(seed)
    speakers = clips.speakers
    out = np.zeros(clips.labels.size)
    for fold in range(int(clips.fold.max()) + 1):
        others = np.unique(speakers[clips.fold != fold])
        both = [voice for voice in others if has_both_classes(clips.labels[speakers == voice])]
        first = both[int(random.integers(len(both)))]  # so that few speakers have both classes too
        order = [first, *(voice for voice in random.permutation(others) if voice != first)]
        chosen = np.isin(speakers, order[: max(1, round(share * len(order)))])
        held_out = clips.fold == fold
        out[held_out] = clips.logits(clips.fit(old, chosen), held_out)
    return out


def report(found: Comparison, clips: Clips, card: Card) -> list[str]:
    """Returns the result as lines for a person."""
    speakers = len(set(clips.speakers))
    lines = [
        f"{clips.labels.size} clips ({int(clips.labels.sum())} stressed) of {speakers} speakers, "
        f"{int(clips.fold.max()) + 1} folds without a common speaker"
    ]
    if clips.refused:
        lines.append(f"clips left out, in which the speech gate finds too little speech: {clips.refused}")
    heard = sorted({clip.corpus for clip in clips.utterances} & {str(corpus["name"]) for corpus in card.training})
    if heard:
        lines.append(f"the model was trained on {', '.join(heard)}: the old head's figure flatters it")
    lines.append("stress AUROC of held-out speakers (95 % interval over speakers)")
    for name, value in (("old head", found.old), ("new head", found.new)):
        lines.append(f"  {name}  {value.value:.3f}  ({value.low:.3f} to {value.high:.3f})")
    lines.append(f"  gain      {found.gain.value:+.3f}  ({found.gain.low:+.3f} to {found.gain.high:+.3f})")
    points = ", ".join(f"{count}: {value:.3f}" for count, value in found.curve)
    lines.append(f"by number of speakers that it is fitted on: {points}")
    return [*lines, advice(found.curve)]


def advice(curve: Sequence[tuple[int, float]]) -> str:
    """Says whether twice as many clips are likely to help, from the last doubling of the learning curve."""
    rises = [after - before for (_, before), (_, after) in itertools.pairwise(curve)]
    if not rises:
        return "too few speakers to say whether more would help: label clips of more speakers and see"
    if rises[-1] >= WORTH_MORE:
        return f"twice as many clips, of other speakers, are likely to help: the last doubling brought {rises[-1]:+.3f}"
    return f"twice as many clips are not likely to help much: the last doubling brought {rises[-1]:+.3f}"


def adapted_card(model: Model, clips: Clips, found: Comparison, calibration: Calibration) -> Card:
    """Returns the card of the adapted file: without the operating points and the parity of the old one."""
    card = model.card
    speakers = {corpus: set[str]() for corpus in sorted({clip.corpus for clip in clips.utterances})}
    for clip in clips.utterances:
        speakers[clip.corpus].add(clip.voice)
    site = [
        {
            "name": corpus,
            "utterances": sum(clip.corpus == corpus for clip in clips.utterances),
            "speakers": len(voices),
            "licence": "your own",
        }
        for corpus, voices in speakers.items()
        if corpus not in {entry["name"] for entry in card.training}
    ]
    figures = {
        "protocol": f"stress head re-fitted, {int(clips.fold.max()) + 1} speaker-disjoint folds, mean over folds",
        "clips": int(clips.labels.size),
        "speakers": len(set(clips.speakers)),
        "parent_sha256": model.sha256,
        **{
            name: {"auroc": _rounded(each.value), "low": _rounded(each.low), "high": _rounded(each.high)}
            for name, each in (("old", found.old), ("new", found.new), ("gain", found.gain))
        },
    }
    return replace(
        card,
        version=f"{card.version.removesuffix('-adapted')}-adapted",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        calibration=calibration,
        training=(*card.training, *site),
        accuracy={**card.accuracy, "adapted": figures},
        notice=f"{card.notice} {_NOTE}" if _NOTE not in card.notice else card.notice,
        parity=None,
        operating_points=None,
    )


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
