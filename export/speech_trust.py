"""From an evaluation's scores by seconds of speech to the curve of trust that a card carries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError
from edge_sser.model.speech_trust import Curve, check_curve
from edge_sser.train.evaluate.origin import Origin

CHANCE = 0.5  # AUROC
DIGITS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Windows of one corpus with about so much speech; see the evaluation's `battery.seconds.Share`.

    Attributes:
        corpus: of the clips.
        seconds: of speech.
        windows: how many.
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
    systems: Mapping[str, _System]  # the first is the one that was tried
    seconds_of_speech: Sequence[Measured]


def fit_speech_trust(measured: Sequence[Measured]) -> Curve:
    """The curve: how far AUROC stands above chance, as a share of what it reaches with a window full of speech.

    Only corpora with an AUROC at every length count, each the same: otherwise the curve would follow the mix of
    corpora. Their mean is made to rise by isotonic regression, in which a length weighs as many windows as it has. The
    last length sets the scale where it is the best, however few its windows.

    Raises:
        ValueError: no corpus has an AUROC at every length, or even full windows are scored as by chance.
    """
    lengths = sorted({each.seconds for each in measured})
    corpora: dict[str, dict[float, Measured]] = {}
    for each in measured:
        if each.auroc is not None:
            corpora.setdefault(each.corpus, {})[each.seconds] = each
    whole = [found for found in corpora.values() if len(found) == len(lengths)]
    if not whole:
        raise ValueError("no corpus has a stress AUROC at every length: evaluate more clips")
    from scipy.optimize import isotonic_regression

    mean = [np.mean([found[length].auroc for found in whole]) for length in lengths]
    windows = [sum(found[length].windows for found in whole) for length in lengths]
    rising = isotonic_regression(mean, weights=windows).x
    if rising[-1] <= CHANCE:
        raise ValueError("the scores of windows full of speech are no better than chance")
    trust = np.clip((rising - CHANCE) / (rising[-1] - CHANCE), 0.0, 1.0)
    return tuple((length, round(float(value), DIGITS)) for length, value in zip(lengths, trust, strict=True))


def read_speech_trust(path: Path, *, system: str, preset: str) -> Curve:
    """The curve that an evaluation gives.

    Args:
        path: JSON of `edge-sser train evaluate RUN --streaming`.
        system: whose scores they must be: the recipe's name.
        preset: that they must be of.

    Raises:
        TrainingError: it is no such file, or of another system or preset, or of voices that the system had heard, or
            gives no curve.
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
