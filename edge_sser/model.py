"""A model file, and what computes it."""

from __future__ import annotations

import hashlib
import math
import stat
import threading
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_sser.card import CARD_KEY, Calibration, Card
from edge_sser.errors import ModelError
from edge_sser.features import FEATURES, FeatureParams
from edge_sser.runtime import onnx_runtime

if TYPE_CHECKING:
    import onnxruntime

DEFAULT_MODEL = "sser-cnn.onnx"
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}  # best first
CHECK_SECONDS = 60.0  # for one window when a model is loaded: a graph can have loops, which need not end
_MAX_REASON_CHARACTERS = 200

__all__ = ["CARD_KEY", "PROVIDERS", "Calibration", "Card", "Model", "Score", "default_model_path", "load_model"]


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
            kind = path.stat().st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise OSError(None, "Not a regular file")  # a device or a pipe need not end
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
            raise ModelError(
                f"model {path}: not a model that ONNX Runtime can use ({_short(error)}): copy it again, or make it "
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
            ModelError: the model gave something that is not a number, or nothing.
        """
        try:
            stress, emotions = self.logits(log_mel[np.newaxis])
            return self._score(stress, emotions)
        except ModelError:
            raise
        except Exception as error:  # what a graph does can depend on the sound
            raise ModelError(
                f"model {self.path}: it cannot score a window ({_short(error)}): train or export it again"
            ) from None

    def logits(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw outputs for a batch.

        Args:
            log_mel: float32 [batch, frames, bands].

        Returns:
            stress logits float32 [batch] and emotion logits float32 [batch, classes].
        """
        stress, emotions = self._session.run(list(self.card.outputs), {self.card.input: log_mel})
        return stress, emotions

    def _score(self, stress: NDArray[np.float32], emotions: NDArray[np.float32]) -> Score:
        (logit,), (moods,) = stress, emotions
        for value, name in ((logit, "a stress logit"), (moods.sum(), "emotion logits, in sum")):
            if not math.isfinite(value):
                raise ModelError(f"model {self.path}: it gave {value} as {name}: train or export it again")
        shifted = np.exp(moods - moods.max())
        return Score(self.card.calibration.probability(float(logit)), shifted / shifted.sum())

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
                f"model {self.path}: its card is damaged or of another version ({_short(error)}): export it again"
            ) from None
        if dict(card.features) != features.as_dict():
            names = sorted(
                name
                for name in {*card.features, *features.as_dict()}
                if card.features.get(name) != features.as_dict().get(name)
            )
            raise ModelError(
                f"model {self.path}: made for other features than this version computes "
                f"({_short(', '.join(names))} differ): export it again with this version"
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
        options = onnx_runtime().RunOptions()
        timer = threading.Timer(CHECK_SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            stress, emotions = self._session.run(list(self.card.outputs), {self.card.input: silence}, options)
        finally:
            timer.cancel()
        if stress.shape != (1,) or emotions.shape != (1, len(self.card.emotions)):
            raise ModelError(
                f"model {self.path}: its outputs have the shapes {list(stress.shape)} and {list(emotions.shape)}, "
                f"expected [1] and [1, {len(self.card.emotions)}] as its card says: export it again"
            )
        self._score(stress, emotions)


def _short(reason: object) -> str:
    """What is wrong in words for a person: ONNX Runtime's run over many lines, and a card can hold anything."""
    text = (str(reason).splitlines() or [type(reason).__name__])[0].rstrip(" .")
    return text if len(text) <= _MAX_REASON_CHARACTERS else text[: _MAX_REASON_CHARACTERS - 3] + "..."


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
