"""The card of a model file: description, calibration and speech trust, as JSON in the file's metadata."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import ModelError, short
from edge_sser.model.affect import EmotionAxis, check_axis
from edge_sser.model.calibration import Calibration, check_calibration
from edge_sser.model.vote import EmotionVote, check_vote
from edge_sser.pipeline.features import FEATURES, FeatureParams

CARD_KEY = "edge_sser.card"
CARD_VERSION = 1
REFERENCE_INPUT = "reference_features"
"""Input of a network of `edge-sser train reference --onnx`, in place of log_mel."""
MAX_NAME_CHARACTERS = 64
MAX_OPERATING_POINTS = 48
MAX_PROTOCOL_CHARACTERS = 200
Curve: TypeAlias = tuple[tuple[float, float], ...]
"""Points (seconds of speech, trust): 0 where scores are as good as chance, 1 where they are as good as they get."""

WINDOW_SECONDS = FEATURES.window_samples / SAMPLE_RATE
DEFAULT_LEAST_RATIO = 0.25  # of a model without a curve
LOWEST_RATIO, HIGHEST_RATIO = 0.1, 0.5  # limits for a curve: a few syllables, half the window
_ENOUGH_TRUST = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A threshold of the filter, and what it was measured to give for strangers.

    Attributes:
        baseline: off; adaptive, learned while listening; or declared, learned from speech that is known to be calm.
        false_alarms_per_hour: budget that the threshold keeps to, episodes in an hour of ordinary speech.
        threshold: rolling stress at which the level becomes elevated, 0..1.
        found: share of the stressed parts that were found, 0..1.
        delay_median_s: from the start of a stressed part to its episode, seconds; None when none was found.
        delay_p95_s: 95th percentile of the delays, seconds; None when none was found.
        hours: of calm and lively speech in the measurement.
        protocol: of the measurement, in words.
    """

    baseline: Literal["off", "adaptive", "declared"]
    false_alarms_per_hour: float
    threshold: float
    found: float
    delay_median_s: float | None
    delay_p95_s: float | None
    hours: float
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Description of a model, stored in its file.

    Attributes:
        name: the model's name, as events carry it: 1 to 64 printable characters.
        version: of the model, not of edge-sser.
        created: RFC 3339.
        architecture: the student and its settings, in words.
        features: parameters of the input; must equal those of this runtime.
        input: name of the float32 [batch, frames, bands] input.
        outputs: names of the stress logit [batch] and the emotion logits [batch, classes].
        emotions: labels of the emotion logits, in order.
        stress_preset: how emotions were mapped to stress.
        calibration: from logit to probability.
        elevated: rolling stress at which the level becomes elevated, 0..1.
        high: rolling stress at which the level becomes high, 0..1.
        precision: fp32 or int8.
        training: one entry a corpus: name, licence, speakers, utterances.
        licence: of the weights.
        accuracy: measured figures with their protocol.
        notice: limits of the model's use.
        parent_sha256: of a quantised file's FP32 parent, else None.
        parity: largest difference of a logit from the network that was exported, else None.
        quantisation: of a quantised file: target, method, the windows it was calibrated on (number, seed, sha256) and
            the nodes left in float; else None.
        speech_trust: trust in a score by the seconds of speech in its window; None when it was not measured. Every
            score is then trusted alike.
        operating_points: thresholds of the filter by budget and baseline; None when they were not measured.
        emotion_vote: share of the emotions in the stress logit; None: the graph's stress logit is taken as it is.
        arousal: of aroused against resting emotions; None when it was not measured.
        valence: of positive against negative emotions; None likewise.
    """

    name: str
    version: str
    created: str
    architecture: str
    features: Mapping[str, float]
    input: str
    outputs: tuple[str, str]
    emotions: tuple[str, ...]
    stress_preset: str
    calibration: Calibration
    elevated: float
    high: float
    precision: str
    training: tuple[Mapping[str, Any], ...]
    licence: str
    accuracy: Mapping[str, Any]
    notice: str
    parent_sha256: str | None = None
    parity: float | None = None
    quantisation: Mapping[str, Any] | None = None
    speech_trust: Curve | None = None
    operating_points: tuple[OperatingPoint, ...] | None = None
    emotion_vote: EmotionVote | None = None
    arousal: EmotionAxis | None = None
    valence: EmotionAxis | None = None

    def to_json(self) -> str:
        """Returns the card as JSON for the model file's metadata."""
        values: dict[str, Any] = {"card": CARD_VERSION}
        for name in self.__slots__:
            if getattr(self, name) is not None:  # a runtime that does not know a field refuses the card
                values[name] = getattr(self, name)
        values["calibration"] = asdict(self.calibration)
        if self.operating_points is not None:
            values["operating_points"] = [asdict(point) for point in self.operating_points]
        for name in ("emotion_vote", "arousal", "valence"):
            if name in values:
                values[name] = asdict(values[name])
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Parses and checks a card.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type; the message names it.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("too deeply nested") from None
        if not isinstance(values, dict) or values.pop("card", None) != CARD_VERSION:
            raise ValueError(f"card version is not {CARD_VERSION}")
        unknown = sorted(set(values) - set(cls.__slots__))
        if unknown:
            raise ValueError(f"unknown field {unknown[0]}")
        try:
            card = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        check_calibration(card.calibration)
        if not 0 < len(card.name) <= MAX_NAME_CHARACTERS or not card.name.isprintable():
            raise ValueError(f"name is not 1 to {MAX_NAME_CHARACTERS} printable characters")
        if not 0 < card.elevated < card.high < 1:
            raise ValueError("levels are not 0 < elevated < high < 1")
        if card.speech_trust is not None:
            check_curve(card.speech_trust)
        if card.operating_points is not None:
            check_points(card.operating_points)
        if card.emotion_vote is not None:
            check_vote(card.emotion_vote, card.emotions)
        for axis in (card.arousal, card.valence):
            if axis is not None:
                check_axis(axis, card.emotions)
        return card


def read_card(text: str | None, path: Path, features: FeatureParams) -> Card:
    """Parses the card of a model file and checks that this program can run the model.

    Args:
        text: the card's JSON; None when the file has no card.
        path: of the file, for messages.
        features: parameters of this program's features.

    Raises:
        ModelError: there is no card, it is damaged, or the model was made for other features.
    """
    if text is None:
        raise ModelError(f"model {path}: it has no card ({CARD_KEY}): only files made by edge-sser export can be used")
    try:
        card = Card.from_json(text)
    except ValueError as error:
        raise ModelError(
            f"model {path}: its card is damaged or of another version ({short(error)}): export it again"
        ) from None
    own = features.as_dict()
    if card.input == REFERENCE_INPUT:
        raise ModelError(
            f"model {path}: {card.name} ({card.architecture}) is a reference system, whose features this device does "
            "not compute: compare its scores with edge-sser train compare, and take a model of edge-sser export here"
        )
    if dict(card.features) != own:
        names = sorted(name for name in {*card.features, *own} if card.features.get(name) != own.get(name))
        raise ModelError(
            f"model {path}: made for other features than this version computes "
            f"({short(', '.join(names))} differ): export it again with this version"
        )
    return card


def check_curve(curve: Curve) -> None:
    """Checks a curve of trust.

    Raises:
        ValueError: the seconds do not rise within 0..3, or trust falls, leaves 0..1, or does not end with 1.
    """
    seconds = [0.0, *(at for at, _ in curve)]
    values = [0.0, *(value for _, value in curve)]
    if not (all(one < other for one, other in itertools.pairwise(seconds)) and seconds[-1] <= WINDOW_SECONDS):
        raise ValueError(f"speech_trust: its seconds do not rise within 0..{WINDOW_SECONDS:g}")
    if not (all(one <= other for one, other in itertools.pairwise(values)) and values[-1] == 1.0):
        raise ValueError("speech_trust: its trust does not rise from 0 or more to 1")


def check_points(points: Sequence[OperatingPoint]) -> None:
    """Checks operating points.

    Raises:
        ValueError: there are none or too many, a value is out of range, or a larger budget has a higher threshold.
    """
    if not 0 < len(points) <= MAX_OPERATING_POINTS:
        raise ValueError(f"operating_points: not 1 to {MAX_OPERATING_POINTS} points")
    for point in points:
        delays = [each for each in (point.delay_median_s, point.delay_p95_s) if each is not None]
        positive = (point.false_alarms_per_hour, point.hours)
        if not (
            0.0 < point.threshold < 1.0
            and 0.0 <= point.found <= 1.0
            and all(0.0 < value < math.inf for value in positive)
            and all(0.0 <= value < math.inf for value in delays)
            and len(point.protocol) <= MAX_PROTOCOL_CHARACTERS
        ):
            raise ValueError(f"operating_points: a value of {point.false_alarms_per_hour:g} an hour is out of range")
    for kind in {point.baseline for point in points}:
        for one, other in itertools.pairwise(point for point in points if point.baseline == kind):
            if one.false_alarms_per_hour >= other.false_alarms_per_hour or one.threshold < other.threshold:
                raise ValueError(f"operating_points: budgets of {kind} do not rise with thresholds that fall")


def trust(curve: Curve | None, speech_seconds: float) -> float:
    """Returns the trust in a window's score, 0..1: linear between the curve's points, constant outside.

    Args:
        curve: of the model; None for full trust.
        speech_seconds: in the window, 0..3.
    """
    if curve is None:
        return 1.0
    left, below = curve[0]
    if speech_seconds <= left:
        return below
    for right, above in curve[1:]:
        if speech_seconds < right:
            return below + (above - below) / (right - left) * (speech_seconds - left)
        left, below = right, above
    return below


def least_speech_ratio(curve: Curve | None) -> float:
    """Returns the least share of speech in a window that is scored: where trust reaches a half, within 0.1..0.5.

    Less speech than the curve's first point is never enough. 0.25 without a curve.
    """
    if curve is None:
        return DEFAULT_LEAST_RATIO
    enough = next(place for place, (_, value) in enumerate(curve) if value >= _ENOUGH_TRUST)
    seconds, value = curve[enough]
    if enough:
        before, below = curve[enough - 1]
        seconds = before + (seconds - before) * (_ENOUGH_TRUST - below) / (value - below)
    return min(max(seconds / WINDOW_SECONDS, LOWEST_RATIO), HIGHEST_RATIO)
