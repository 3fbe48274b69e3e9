"""A model file and its card, and what computes it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import ModelError
from edge_sser.features import FEATURES, FeatureParams
from edge_sser.runtime import onnx_runtime

if TYPE_CHECKING:
    import onnxruntime

CARD_KEY = "edge_sser.card"
CARD_VERSION = 1
DEFAULT_MODEL = "sser-cnn.onnx"
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}  # best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From a stress logit to a probability: sigmoid(logit / temperature + bias)."""

    temperature: float
    bias: float

    def probability(self, logit: float) -> float:
        """Calibrated probability of stressed speech, 0..1."""
        z = logit / self.temperature + self.bias
        return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a model file says of itself.

    Attributes:
        name: the model's name, as events carry it.
        version: of the model, not of edge-sser.
        created: RFC 3339.
        architecture: the student and its settings, in words.
        features: parameters of the input; must equal what this runtime computes.
        input: name of the float32 [batch, frames, bands] input.
        outputs: names of the stress logit [batch] and the emotion logits [batch, classes].
        emotions: labels of the emotion logits, in order.
        stress_preset: how emotions were mapped to stress.
        calibration: from logit to probability.
        elevated: rolling stress at which the level becomes elevated, 0..1.
        high: likewise high.
        precision: fp32 or int8.
        training: one entry a corpus: name, licence, speakers, utterances.
        licence: of the weights.
        accuracy: measured figures with their protocol.
        notice: what the model must not be taken for.
        parent_sha256: of the FP32 graph a quantised one came from, else None.
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

    def to_json(self) -> str:
        """The card as it rides in the model file."""
        values: dict[str, Any] = {"card": CARD_VERSION}
        for name in self.__slots__:
            values[name] = getattr(self, name)
        values["calibration"] = {"temperature": self.calibration.temperature, "bias": self.calibration.bias}
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Reads and checks a card.

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
        if not (0 < card.calibration.temperature < math.inf and math.isfinite(card.calibration.bias)):
            raise ValueError("calibration is not a positive temperature and a finite bias")
        if not 0 < card.elevated < card.high < 1:
            raise ValueError("levels are not 0 < elevated < high < 1")
        return card


@dataclass(frozen=True, slots=True)
class Score:
    """What the model says of one window.

    Attributes:
        stress: calibrated probability, 0..1.
        emotions: float32 [classes], probabilities in the order of the card's labels.
    """

    stress: float
    emotions: NDArray[np.float32]


class Model:
    """A loaded model: features in, calibrated stress out.

    Attributes:
        card: what the file says of itself.
        path: the file.
        sha256: of the file.
        provider: the ONNX Runtime provider actually in use.
    """

    def __init__(self, path: Path, *, provider: str = "auto", threads: int = 1) -> None:
        """Loads and checks a model file.

        Args:
            path: an .onnx file with a card.
            provider: auto, cpu, cuda or tensorrt.
            threads: of one inference.

        Raises:
            ModelError: the file is missing, damaged, without a card, or made for other features; or the
                provider is not in this ONNX Runtime.
        """
        self.path = path
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise ModelError(f"model {path}: {reason}: give an .onnx file made by edge-sser export") from None
        self.sha256 = hashlib.sha256(data).hexdigest()
        try:
            self._session = _session(data, provider, threads)
            self.provider: str = self._session.get_providers()[0]
            self.card = self._checked_card(FEATURES)
            self._check_outputs()
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime raises several unrelated classes, and not only where it loads
            reason = str(error).splitlines()[0].rstrip(" .") if str(error) else type(error).__name__
            raise ModelError(
                f"model {path}: not a model that ONNX Runtime can use ({reason}): copy it again, or make it "
                "with edge-sser export"
            ) from None

    @property
    def label(self) -> str:
        """Name and first 8 hexadecimal digits of the file's sha256, as events carry it."""
        return f"{self.card.name}@{self.sha256[:8]}"

    def score(self, log_mel: NDArray[np.float32]) -> Score:
        """Scores one window.

        Args:
            log_mel: float32 [frames, bands], as `LogMel` gives them.

        Raises:
            ModelError: the model gave something that is not a number.
        """
        stress, emotions = self.logits(log_mel[np.newaxis])
        if not math.isfinite(stress[0]):
            raise ModelError(f"model {self.path}: it gave {stress[0]} as a stress logit: train or export it again")
        shifted = np.exp(emotions[0] - emotions[0].max())
        return Score(self.card.calibration.probability(float(stress[0])), shifted / shifted.sum())

    def logits(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw outputs for a batch.

        Args:
            log_mel: float32 [batch, frames, bands].

        Returns:
            stress logits float32 [batch] and emotion logits float32 [batch, classes].
        """
        stress, emotions = self._session.run(list(self.card.outputs), {self.card.input: log_mel})
        return stress, emotions

    def _checked_card(self, features: FeatureParams) -> Card:
        text = self._session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
        if text is None:
            raise ModelError(
                f"model {self.path}: it has no card ({CARD_KEY}): only files made by edge-sser export can be used"
            )
        try:
            card = Card.from_json(text)
        except ValueError as error:
            raise ModelError(
                f"model {self.path}: its card is damaged or of another version ({error}): export it again"
            ) from None
        if dict(card.features) != features.as_dict():
            names = sorted(
                name
                for name in {*card.features, *features.as_dict()}
                if card.features.get(name) != features.as_dict().get(name)
            )
            raise ModelError(
                f"model {self.path}: made for other features than this version computes "
                f"({', '.join(names)} differ): export it again with this version"
            )
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name for node in self._session.get_outputs()}
        shape = inputs[card.input].shape if card.input in inputs else None
        if shape is None or shape[1:] != [features.frames, features.bands] or not {*card.outputs} <= outputs:
            raise ModelError(f"model {self.path}: its inputs and outputs are not what its card says: export it again")
        return card

    def _check_outputs(self) -> None:
        """Computes one window, which also warms the session up: a graph can promise shapes that it does not keep."""
        silence = np.full((1, FEATURES.frames, FEATURES.bands), FEATURES.floor_db, dtype=np.float32)
        stress, emotions = self.logits(silence)
        if stress.shape != (1,) or emotions.shape != (1, len(self.card.emotions)):
            raise ModelError(
                f"model {self.path}: its outputs have the shapes {list(stress.shape)} and {list(emotions.shape)}, "
                f"expected [1] and [1, {len(self.card.emotions)}] as its card says: export it again"
            )
        self.score(silence[0])


def _session(data: bytes, provider: str, threads: int) -> onnxruntime.InferenceSession:
    """Opens a graph with a provider, or with the best one that works.

    Raises:
        ModelError: the provider is not in this ONNX Runtime.
        Exception: of several unrelated classes, when ONNX Runtime cannot load the graph.
    """
    onnxruntime = onnx_runtime()
    present = onnxruntime.get_available_providers()
    wanted = list(PROVIDERS) if provider == "auto" else [provider]
    providers = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in present]
    if not providers:
        raise ModelError(
            f"ONNX Runtime here has no {PROVIDERS[provider]}, only {', '.join(present)}: "
            "use --provider auto, or install the onnxruntime build for this board"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread pool costs 40 % of a core at ten inferences a second, at the same latency.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    while True:
        try:
            # Its own fallback prints to standard output, which is for events.
            return onnxruntime.InferenceSession(data, options, providers=providers, enable_fallback=0)
        except Exception:
            providers = providers[1:]
            if not providers:
                raise


def default_model_path() -> Path:
    """The model that ships with the package."""
    return Path(str(resources.files("edge_sser") / "models" / DEFAULT_MODEL))


def load_model(path: Path | None = None, *, provider: str = "auto", threads: int = 1) -> Model:
    """Loads a model file, or the one that ships. See `Model`."""
    return Model(path or default_model_path(), provider=provider, threads=threads)
