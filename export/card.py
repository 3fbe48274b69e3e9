"""The card of an exported model: what it is, what it heard, how well it does, what it must not be taken for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from edge_sser.model.model import Calibration, Card
from edge_sser.model.speech_trust import Curve
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.evaluate.scores import Evaluation
from edge_sser.train.recipe import Recipe

INPUT = "log_mel"
OUTPUTS = ("stress_logit", "emotion_logits")
# Rolling stress at which the level changes; how often calm readers are above it stands in docs/training.md.
ELEVATED = 0.6
HIGH = 0.8

NOTICE = (
    "Trained on acted emotion: it tells how stressed speech sounds, not how stressed a person is. "
    "Not a medical device and not a lie detector."
)
# Weights inherit the terms of what they were trained on. Corpora not listed are the user's own.
LICENCES: Mapping[str, str] = {
    "ravdess": "CC BY-NC-SA 4.0",
    "nemo": "CC BY-NC-SA 4.0",
    "indian-emospeech": "CC BY-NC-SA 4.0",
    "librispeech": "CC BY 4.0",
}


def make_card(
    recipe: Recipe,
    header: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    parameters: int,
    speech_trust: Curve | None = None,
) -> Card:
    """Fills a card.

    Args:
        recipe: of the run.
        header: of its checkpoint.
        evaluations: out-of-fold scores by system, under its preset; that of the recipe's name gives the calibration,
            the others are baselines set beside it.
        parameters: of the student.
        speech_trust: by seconds of speech in a window; None when it was not measured.
    """
    own = evaluations.get(recipe.name)
    licences = {LICENCES.get(corpus["name"], "") for corpus in header["corpora"]} - {""}
    return Card(
        name=recipe.name,
        version=recipe.version,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        architecture=f"{recipe.student.kind.value}, width {recipe.student.width}, {parameters} parameters",
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
    )
