"""Fills the card of an exported model: training data and licences, scores, and trust by seconds of speech."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError
from edge_sser.model.calibration import Calibration
from edge_sser.model.card import Curve, check_curve
from edge_sser.model.model import Card
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.evaluate.affect import AROUSAL, VALENCE, fit_axis
from edge_sser.train.evaluate.predictions import Origin, Prediction
from edge_sser.train.evaluate.scores import Evaluation
from edge_sser.train.recipe import Recipe
from edge_sser.train.students.backend import emotion_vote

INPUT = "log_mel"
OUTPUTS = ("stress_logit", "emotion_logits")
# Rolling stress at which the level changes. docs/results/alarms.md says how often calm readers are above.
ELEVATED = 0.6
HIGH = 0.8

NOTICE = (
    "Trained on acted emotion: it tells how stressed speech sounds, not how stressed a person is. "
    "Not a medical device and not a lie detector."
)
# Weights inherit the terms of the training data. Corpora not listed are the user's own.
LICENCES: Mapping[str, str] = {
    "ravdess": "CC BY-NC-SA 4.0",
    "nemo": "CC BY-NC-SA 4.0",
    "indian-emospeech": "CC BY-NC-SA 4.0",
    "librispeech": "CC BY 4.0",
}

TRUNK_LICENCE = "MIT (Whisper's encoder, OpenAI)"
YAMNET_LICENCE = "Apache 2.0 (YAMNet, The TensorFlow Authors)"

CHANCE_AUROC = 0.5
TRUST_DIGITS = 3


def make_card(
    recipe: Recipe,
    header: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    parameters: int,
    speech_trust: Curve | None = None,
    predictions: Sequence[Prediction] = (),
) -> Card:
    """Fills a card.

    Args:
        recipe: recipe of the run.
        header: header of its checkpoint.
        evaluations: out-of-fold scores by system, under its preset. The one named like the recipe gives the
            calibration; the others are baselines to compare with.
        parameters: number of the student's parameters.
        speech_trust: curve by seconds of speech in a window; None when it was not measured.
        predictions: out-of-fold predictions of the system, for arousal and valence.
    """
    own = evaluations.get(recipe.name)
    licences = {LICENCES.get(corpus["name"], "") for corpus in header["corpora"]} - {""}
    architecture = _describe_network(recipe, [f"{parameters} parameters"])
    members = [recipe]
    if recipe.student.companion:
        members += [Recipe.model_validate(companion["recipe"]) for companion in header["companions"]]
        beside = " and ".join(f"{member.name} ({_describe_network(member)})" for member in members[1:])
        architecture += f", beside {beside}"
    if recipe.trunk is not None:
        licences.add(TRUNK_LICENCE)
    if any(member.initial is not None for member in members):
        licences.add(YAMNET_LICENCE)
    return Card(
        name=recipe.name,
        version=recipe.version,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        architecture=architecture,
        features=FEATURES.as_dict(),
        input=INPUT,
        outputs=OUTPUTS,
        emotions=tuple(header["emotions"]),
        stress_preset=recipe.preset,
        calibration=own.calibration if own else Calibration(temperature=1.0, bias=0.0),
        elevated=ELEVATED,
        high=HIGH,
        precision="fp32",
        training=tuple({**corpus, "licence": LICENCES.get(corpus["name"], "your own")} for corpus in header["corpora"]),
        licence=", ".join(sorted(licences)) or "yours, by the terms of your recordings",
        accuracy={name: evaluation.as_dict() for name, evaluation in evaluations.items()},
        notice=NOTICE,
        speech_trust=speech_trust,
        emotion_vote=emotion_vote(recipe, header.get("preset")),
        arousal=fit_axis(predictions, AROUSAL),
        valence=fit_axis(predictions, VALENCE),
    )


def _describe_network(recipe: Recipe, size: Sequence[str] = ()) -> str:
    parts = [recipe.student.kind.value, f"width {recipe.student.width}", *size]
    if recipe.trunk is not None:
        parts.append(f"{recipe.student.layers} frozen layers of {Path(recipe.trunk.weights).name}")
    if recipe.initial is not None:
        parts.append(f"{recipe.student.layers} layers started from YAMNet's, {recipe.initial.frozen} of them frozen")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechScore:
    """Score of the windows of one corpus that have a given length of speech, as an evaluation reports it.

    Attributes:
        seconds: speech in each window, seconds.
        auroc: of stress, 0..1; None where there are too few windows, or all are stressed or none is.
    """

    corpus: str
    seconds: float
    windows: int
    auroc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _System:
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    preset: str
    systems: Mapping[str, _System]  # the first is the evaluated one
    seconds_of_speech: Sequence[SpeechScore]


def fit_speech_trust(scores: Sequence[SpeechScore]) -> Curve:
    """Fits the curve of trust: AUROC above chance, as a share of its value for a window full of speech.

    Only corpora with an AUROC at every length count, all with the same weight: otherwise the curve would follow the mix
    of corpora. Isotonic regression, in which a length weighs as many windows as it has, makes their mean rise. The last
    length sets the scale where it is the best, however few its windows.

    Raises:
        ValueError: no corpus has an AUROC at every length, or full windows score no better than chance.
    """
    lengths = sorted({each.seconds for each in scores})
    corpora: dict[str, dict[float, SpeechScore]] = {}
    for each in scores:
        if each.auroc is not None:
            corpora.setdefault(each.corpus, {})[each.seconds] = each
    complete = [found for found in corpora.values() if len(found) == len(lengths)]
    if not complete:
        raise ValueError("no corpus has a stress AUROC at every length: evaluate more clips")
    from scipy.optimize import isotonic_regression

    mean = [np.mean([found[length].auroc for found in complete]) for length in lengths]
    windows = [sum(found[length].windows for found in complete) for length in lengths]
    rising = isotonic_regression(mean, weights=windows).x
    if rising[-1] <= CHANCE_AUROC:
        raise ValueError("the scores of windows full of speech are no better than chance")
    trust = np.clip((rising - CHANCE_AUROC) / (rising[-1] - CHANCE_AUROC), 0.0, 1.0)
    return tuple((length, round(float(value), TRUST_DIGITS)) for length, value in zip(lengths, trust, strict=True))


def read_speech_trust(path: Path, *, system: str, preset: str) -> Curve:
    """Fits the curve of trust to the JSON of `edge-sser train evaluate RUN --streaming`.

    Raises:
        TrainingError: the file is not an evaluation, is of another system or preset or of speakers that the system was
            trained on, or gives no curve.
    """
    try:
        report = TypeAdapter(_Report).validate_python(json.loads(path.read_text("utf-8")))
        first = next(iter(report.systems), "none")
        if (first, report.preset) != (system, preset):
            raise ValueError(f"it is of {first} with preset {report.preset}, expected {system} with {preset}")
        if report.systems[system].origin.heard:
            raise ValueError("it is of voices that the model had heard: evaluate the run, not a file")
        if not report.seconds_of_speech:
            raise ValueError("it has no seconds_of_speech")
        curve = fit_speech_trust(report.seconds_of_speech)
        check_curve(curve)
        return curve
    except ValidationError as error:
        found = error.errors()[0]
        reason = f"{'.'.join(map(str, found['loc'])) or 'the whole'}: {found['msg']}"
    except (OSError, RecursionError, ValueError) as error:
        reason = str(error)
    raise TrainingError(
        f"evaluation {path}: {reason}: make it with edge-sser train evaluate RUN --table TABLE --streaming --json FILE"
    ) from None
