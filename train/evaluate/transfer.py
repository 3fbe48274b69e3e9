"""`train transfer`: trains on all corpora but one and tests on that one, the criterion of every choice of a recipe.

Folds of speakers share the language, the sentences and the studio between training and test. A corpus that nobody
trained on does not, and is what a new site looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.model.model import Model
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.features import FeatureStore, windows
from edge_sser.train.data.labels import Emotion, Preset, read_preset
from edge_sser.train.evaluate.metrics import Floats, Interval, Labels, auroc, bootstrap_speakers, mean_known
from edge_sser.train.evaluate.models import trained_model
from edge_sser.train.fit.checkpoint import MODEL_FILE, load_student, run_folder
from edge_sser.train.fit.run import FitRequest, fit_all
from edge_sser.train.fit.teaching import make_teachers
from edge_sser.train.fit.threads import choose_threads

CALM: Final = (Emotion.NEUTRAL.value, Emotion.CALM.value, "")
AROUSED: Final = (Emotion.HAPPY.value, Emotion.SURPRISED.value)
COLUMNS: Final = ("all", "against calm", "against happy", "against sad", "men", "women")
_BATCH = 64


@dataclass(frozen=True, slots=True)
class TransferScore:
    """Stress AUROC on one corpus that was not trained on, one seed.

    Attributes:
        corpus: held out.
        seed: of the run.
        values: by COLUMNS; NaN where a group has one class. Men and women: of that sex alone.
        interval: of the first value, from a bootstrap over speakers.
    """

    corpus: str
    seed: int
    values: tuple[float, ...]
    interval: Interval


def by_corpus(utterances: Sequence[Utterance], preset: Preset) -> tuple[list[Utterance], list[str]]:
    """Returns the utterances with the number of their corpus as fold, and the corpora that can be tested on.

    Corpora without stressed or without other clips get fold 0, so that every run trains on them.

    Raises:
        TrainingError: fewer than two corpora have stressed and other clips.
    """
    classes: dict[str, set[int]] = {}
    for utterance in utterances:
        decision = preset.decision(utterance)
        if decision is not None:
            classes.setdefault(utterance.corpus, set()).add(decision)
    tested = sorted(corpus for corpus, found in classes.items() if len(found) > 1)
    if len(tested) < 2:
        raise TrainingError(
            f"train transfer needs two corpora with stressed and other clips, and the table has {len(tested)}: "
            "add a corpus"
        )
    number = {corpus: place for place, corpus in enumerate(tested, start=1)}
    return [replace(utterance, fold=number.get(utterance.corpus, 0)) for utterance in utterances], tested


def transfer(
    request: FitRequest,
    utterances: Sequence[Utterance],
    seeds: Sequence[int],
    warn: Callable[[str], None],
) -> list[TransferScore]:
    """Trains and scores a recipe on each corpus that it did not hear, for each seed.

    Args:
        request: of `train fit`; its folder gets a folder for each seed.
        utterances: the table.
        seeds: of the recipe, one after another.
        warn: prints a line to standard error.

    Raises:
        TrainingError: fewer than two corpora can be tested on, or as for `run.fit_all`.
    """
    preset = read_preset(request.plan.preset)
    table, tested = by_corpus(utterances, preset)
    cache = request.cache or request.out / "cache"
    folds = list(range(1, len(tested) + 1))
    choose_threads(request.threads, warn)
    make_teachers(request.teachers, request.teacher_folders, request.plan.preset, table, folds, cache)
    taught = replace(
        request, cache=cache, teachers=tuple(map(str, request.teacher_folders)), threads=torch.get_num_threads()
    )
    found = []
    for seed in seeds:
        folder = request.out / f"seed-{seed}"
        run = replace(taught, out=folder, changes=(*request.changes, f"optimisation.seed={seed}"))
        fit_all(run, table, folds, warn)
        store = FeatureStore(table, cache)
        for fold, corpus in enumerate(tested, start=1):
            path = run_folder(folder, fold) / MODEL_FILE
            model = trained_model(*load_student(path), path)
            clips = [clip for clip in table if clip.corpus == corpus and preset.decision(clip) is not None]
            found.append(score_corpus(model, clips, store, preset, seed))
    return found


def score_corpus(
    model: Model, clips: Sequence[Utterance], store: FeatureStore, preset: Preset, seed: int
) -> TransferScore:
    """Scores a model on the clips of one corpus, all with a stress label."""
    scores = np.array([clip_score(model, store, clip) for clip in clips])
    labels = np.array([preset.decision(clip) or 0 for clip in clips])
    emotions = np.array([clip.emotion for clip in clips])
    sexes = np.array([clip.sex for clip in clips])
    groups = [
        np.ones(len(clips), dtype=bool),
        *((labels == 1) | np.isin(emotions, names) for names in (CALM, AROUSED, (Emotion.SAD.value,))),
        sexes == "M",
        sexes == "F",
    ]
    values = tuple(_group_auroc(labels, scores, group) for group in groups)
    (interval,) = bootstrap_speakers(
        lambda places: (auroc(labels[places], scores[places]),), np.array([clip.voice for clip in clips])
    )
    return TransferScore(clips[0].corpus, seed, values, interval)


def _group_auroc(labels: Labels, scores: Floats, group: NDArray[np.bool_]) -> float:
    return auroc(labels[group], scores[group])


def clip_score(model: Model, store: FeatureStore, clip: Utterance) -> float:
    """Returns the mean stress logit of a clip's windows, with the vote of the emotions as on a device."""
    sound = windows(store[clip])
    parts = [model.logits(sound[start : start + _BATCH])[0] for start in range(0, len(sound), _BATCH)]
    return float(np.concatenate(parts).mean())


def transfer_table(scores: Sequence[TransferScore]) -> str:
    """Returns a Markdown table: a row for each corpus, the mean over seeds, and the mean over corpora.

    The mean of all corpora has the worst and the best seed behind it; a corpus has its interval over speakers, the
    mean of the seeds' intervals.
    """
    corpora = list(dict.fromkeys(score.corpus for score in scores))
    seeds = sorted({score.seed for score in scores})
    lines = [f"| tested on | {' | '.join(COLUMNS)} | 95 % over speakers |", "|---" * (len(COLUMNS) + 2) + "|"]
    for corpus in corpora:
        own = [score for score in scores if score.corpus == corpus]
        low, high = (float(np.mean([getattr(score.interval, side) for score in own])) for side in ("low", "high"))
        lines.append(_row(corpus, [score.values for score in own], f"{low:.3f} to {high:.3f}"))
    means = [float(np.mean([score.values[0] for score in scores if score.seed == seed])) for seed in seeds]
    spread = f"seeds {min(means):.3f} to {max(means):.3f}" if len(seeds) > 1 else "one seed"
    lines.append(_row("**mean**", [score.values for score in scores], spread))
    return "\n".join(lines) + "\n"


def _row(name: str, values: Sequence[tuple[float, ...]], last: str) -> str:
    cells = [mean_known([value[column] for value in values]) for column in range(len(COLUMNS))]
    return f"| {name} | {' | '.join('-' if np.isnan(cell) else f'{cell:.3f}' for cell in cells)} | {last} |"
