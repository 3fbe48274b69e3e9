"""A model: a card and a backend that computes its graph."""

from __future__ import annotations

import hashlib
import logging
import math
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import AudioInputError, ModelError, short
from edge_sser.model.backend import Backend
from edge_sser.model.calibration import Calibration, sigmoid
from edge_sser.model.card import CARD_KEY, Card
from edge_sser.model.card_file import read_model_file
from edge_sser.model.engine_file import EngineMissError, engines_folder
from edge_sser.model.onnx_backend import PROVIDERS, OnnxBackend, automatic_providers, present_providers
from edge_sser.model.shipped import ShippedModel, named_model
from edge_sser.model.tensorrt_library import LIBRARIES, TENSORRT, Library
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.schema import ModelSettings, Runtime

CHECK_SECONDS = 60.0  # timeout for one window when a model is loaded
CHECK_MEMORY_BYTES = 1 << 30  # address space for loading and for one window, besides
CHECK_MEMORY_FILES = 8  # times the size of the file
WINDOW_SHAPE = (FEATURES.frames, FEATURES.bands)
SOUND_DB = -30.0  # loudest frame of the sound that a model is checked with

log = logging.getLogger("edge_sser.model")

__all__ = [
    "CARD_KEY",
    "Calibration",
    "Card",
    "Model",
    "Score",
    "load_engine",
]


@dataclass(frozen=True, slots=True)
class Score:
    """Output of the model for one window.

    Attributes:
        stress: calibrated probability, 0..1.
        log_odds: the same as log-odds, of which a probability near 0 or 1 keeps no digits.
        emotion_logits: float32 [classes], in the order of the card's labels.
        arousal: probability of an aroused voice, 0..1; None where the card has no such axis.
        valence: probability of a positive voice against a negative one, 0..1; None likewise.
    """

    stress: float
    log_odds: float
    emotion_logits: NDArray[np.float32]
    arousal: float | None = None
    valence: float | None = None

    @property
    def emotions(self) -> NDArray[np.float32]:
        """Probabilities of the emotions, float32 [classes]: the softmax of the logits."""
        shifted = np.exp(self.emotion_logits - self.emotion_logits.max())
        probabilities: NDArray[np.float32] = shifted / shifted.sum()
        return probabilities


class Model:
    """A loaded model: features in, calibrated stress out.

    Attributes:
        backend: computes the graph.
        card: labels, calibration and thresholds of the model.
        path: of the file, for messages.
        sha256: of the file.
    """

    def __init__(self, backend: Backend, card: Card, *, path: Path, sha256: str) -> None:
        """Combines a backend and a card; `load` does so for a model file."""
        self.backend, self.card, self.path, self.sha256 = backend, card, path, sha256

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        runtime: Runtime | str = Runtime.AUTO,
        threads: int = 1,
        engines: Path | None = None,
    ) -> Model:
        """Loads and checks a model file, and logs the backend that computes it, with the reason.

        Args:
            path: an .onnx file with a card; or the name of a model that ships, whose file that suits the backend is
                taken; None for the default.
            runtime: auto takes an engine that was built from the file if it is valid here, else the best provider of
                ONNX Runtime. No engine is ever built.
            threads: of one inference.
            engines: folder of engines; None for the default of `engines_folder`.

        Raises:
            ModelError: the file is missing, damaged, without a card, or made for other features; the provider is not
                in this ONNX Runtime; or the runtime is `engine`, and no engine can be used.
        """
        chosen = named_model(None if path is None else Path(path))
        runtime = Runtime(runtime)
        why, level = f"runtime = {runtime.value}", logging.INFO
        if runtime in (Runtime.AUTO, Runtime.ENGINE):
            try:
                model = _first_engine([chosen] if isinstance(chosen, Path) else chosen.for_engines(), engines)
                log.info("%s is computed by an engine that was built for this machine", model.label)
                return model
            except EngineMissError as miss:
                if runtime is Runtime.ENGINE:
                    raise ModelError(
                        f"no engine can be used: {miss}: build one with edge-sser export FILE.onnx --target tensorrt, "
                        "or take --runtime auto"
                    ) from None
                why, level = f"no engine: {miss}", logging.WARNING if miss.refused else logging.INFO
        model = _load_with_provider(chosen, runtime, threads)
        log.log(level, "%s is computed by ONNX Runtime's %s (%s)", model.label, model.provider, why)
        return model

    @property
    def provider(self) -> str:
        """Name of the backend: an ONNX Runtime provider, or `TensorRT engine`."""
        return self.backend.provider

    @classmethod
    def of_settings(cls, chosen: ModelSettings) -> Model:
        """Loads the model of the settings; errors as for `load`."""
        return cls.load(chosen.path, runtime=chosen.runtime, threads=chosen.threads, engines=chosen.engines)

    @property
    def label(self) -> str:
        """Name and first 8 hexadecimal digits of the file's sha256, as events carry them."""
        return f"{self.card.name}@{self.sha256[:8]}"

    def score(self, log_mel: NDArray[np.float32]) -> Score:
        """Scores one window.

        Args:
            log_mel: float32 [frames, bands], of 3 s, from `LogMel` or `log_mel`.

        Raises:
            AudioInputError: the array has another shape.
            ModelError: the backend failed, or an output is not a number.
        """
        if log_mel.shape != WINDOW_SHAPE:
            raise AudioInputError(
                f"the window has the shape {list(log_mel.shape)}, expected {list(WINDOW_SHAPE)}: "
                f"give log_mel(samples) of {FEATURES.window_samples} samples, 3 s at 16 kHz"
            )
        try:
            return self._score(*self.logits(log_mel[np.newaxis]))
        except ModelError:
            raise
        except Exception as error:  # a graph can fail on some sounds only
            raise ModelError(
                f"model {self.path}: it cannot score a window ({short(error)}): train or export it again"
            ) from None

    def logits(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Computes the logits of a batch.

        Args:
            log_mel: float32 [batch, frames, bands].

        Returns:
            stress logits float32 [batch], with the card's vote of the emotions, and theirs, float32 [batch, classes].
        """
        stress, emotions = self.backend.run(log_mel)
        vote = self.card.emotion_vote
        return (vote.blend(stress, emotions, self.card.emotions) if vote else stress), emotions

    def check(self) -> None:
        """Scores a window of silence and one of sound: a warm-up, and a check of what the graph promises and costs.

        Raises:
            ModelError: the outputs have other shapes than the card declares, or are not numbers.
            Exception: of several unrelated classes, when the backend fails.
        """
        silence = np.full((1, FEATURES.frames, FEATURES.bands), FEATURES.floor_db, dtype=np.float32)
        loudness = np.linspace(FEATURES.floor_db, SOUND_DB, FEATURES.frames, dtype=np.float32)
        sound = silence + (loudness - np.float32(FEATURES.floor_db))[:, np.newaxis]
        for window in (silence, sound):
            stress, emotions = self.backend.run(window, limit_seconds=CHECK_SECONDS)
            if stress.shape != (1,) or emotions.shape != (1, len(self.card.emotions)):
                raise ModelError(
                    f"model {self.path}: its outputs have the shapes {list(stress.shape)} and {list(emotions.shape)}, "
                    f"expected [1] and [1, {len(self.card.emotions)}] as its card says: export it again"
                )
            self._score(stress, emotions)

    def _score(self, stress: NDArray[np.float32], emotions: NDArray[np.float32]) -> Score:
        (logit,), (emotion_logits,) = stress, emotions
        for value, name in ((logit, "a stress logit"), (np.add.reduce(emotion_logits), "emotion logits, in sum")):
            if not math.isfinite(value):
                raise ModelError(f"model {self.path}: it gave {value} as {name}: train or export it again")
        log_odds = self.card.calibration.log_odds(float(logit))
        arousal, valence = (
            None if axis is None else axis.probability(emotion_logits, self.card.emotions)
            for axis in (self.card.arousal, self.card.valence)
        )
        return Score(sigmoid(log_odds), log_odds, emotion_logits, arousal, valence)


def load_engine(
    path: Path, engines: Path | None = None, library: Library = TENSORRT, *, sha256: str | None = None
) -> Model:
    """Loads and checks the engine that was built from a model file.

    Args:
        path: of the model file.
        engines: folder of engines; None for the default.
        library: that built the engine.
        sha256: of the model file, hexadecimal; None to compute it.

    Raises:
        EngineMissError: no engine of the file can be used.
        ModelError: the model file cannot be read.
    """
    from edge_sser.model.tensorrt_backend import open_engine

    sha256 = sha256 or _sha256(path)
    engine = open_engine(engines_folder(engines), path, sha256, library)
    model = Model(engine, engine.card, path=path, sha256=sha256)
    try:
        model.check()
        engine.save_kernels()
    except Exception as error:
        engine.close()
        raise EngineMissError(f"it does not compute the model ({short(error)}): build it again") from None
    return model


def _first_engine(paths: Sequence[Path], engines: Path | None) -> Model:
    """Loads the first engine that can be used. Raises the miss that deserves a warning most if there is none."""
    misses = []
    for path in paths:
        sha256 = _sha256(path)
        for library in LIBRARIES:
            try:
                return load_engine(path, engines, library, sha256=sha256)
            except EngineMissError as miss:
                misses.append(miss)
    raise next((each for each in misses if each.refused), misses[0])


def _load_with_provider(chosen: ShippedModel | Path, runtime: Runtime, threads: int) -> Model:
    """Loads a file, or that of a shipped model that suits the provider, into ONNX Runtime."""
    if isinstance(chosen, Path):
        return _load_onnx(chosen, runtime, threads)
    provider = automatic_providers()[0] if runtime is Runtime.AUTO else runtime
    model = _load_onnx(chosen.for_provider(provider), runtime, threads)
    if provider is not Runtime.CPU and model.provider == PROVIDERS[Runtime.CPU]:
        # The provider is in this ONNX Runtime, but its libraries are missing on this machine.
        model = _load_onnx(chosen.int8, runtime, threads)
    return model


def _load_onnx(path: Path, runtime: Runtime, threads: int) -> Model:
    data = read_model_file(path)
    try:
        with _memory_budget(CHECK_MEMORY_BYTES + CHECK_MEMORY_FILES * len(data), runtime):
            backend = OnnxBackend(path, data, runtime=runtime, threads=threads, features=FEATURES)
            model = Model(backend, backend.card, path=path, sha256=hashlib.sha256(data).hexdigest())
            model.check()
        return model
    except ModelError:
        raise
    except Exception as error:  # ONNX Runtime raises several unrelated classes, also at the first inference
        raise ModelError(
            f"model {path}: not a model that ONNX Runtime can use ({short(error)}): copy it again, or make it "
            "with edge-sser export"
        ) from None


@contextmanager
def _memory_budget(size: int, runtime: Runtime) -> Iterator[None]:
    """Limits the memory that this process may add within the block.

    Not where a graphics processor may compute: its driver reserves addresses by the hundred gigabytes.

    Args:
        size: bytes of address space.
        runtime: the provider asked for.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    if runtime is not Runtime.CPU and present_providers() != [Runtime.CPU]:
        yield
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + size
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_model_file(path)).hexdigest()
