"""A model file, and what computes it."""

from __future__ import annotations

import hashlib
import logging
import math
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.backends.backend import Backend
from edge_sser.backends.session import PROVIDERS, Session, automatic_providers
from edge_sser.card import CARD_KEY, Calibration, Card
from edge_sser.engine_file import EngineMissError, engine_path, engines_folder
from edge_sser.errors import ModelError, short
from edge_sser.features import FEATURES
from edge_sser.settings import ModelSettings, Runtime
from edge_sser.shipped import DEFAULT_MODEL, default_model_path, shipped_for, shipped_for_engines

CHECK_SECONDS = 60.0  # for one window when a model is loaded: a graph can have loops, which need not end

log = logging.getLogger("edge_sser.model")

__all__ = [
    "CARD_KEY",
    "DEFAULT_MODEL",
    "Calibration",
    "Card",
    "Model",
    "Score",
    "default_model_path",
    "load_model",
    "open_model",
]


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
        provider: what computes it: an ONNX Runtime provider, or `TensorRT engine`.
    """

    def __init__(
        self, path: Path, *, runtime: Runtime | str = Runtime.AUTO, threads: int = 1, engines: Path | None = None
    ) -> None:
        """Loads and checks a model file.

        Args:
            path: an .onnx file with a card.
            runtime: what is to compute it; auto is the best that ONNX Runtime has. See `load_model`.
            threads: of one inference.
            engines: folder of engines, when it is not the usual one; see `engines_folder`.

        Raises:
            EngineMissError: an engine was asked for, and there is none that can be used.
            ModelError: the file is missing, damaged, without a card, or made for other features; or the
                provider is not in this ONNX Runtime.
        """
        self.path = path
        data = _read(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        runtime = Runtime(runtime)
        if runtime is Runtime.ENGINE:
            self._use(self._engine(engines))
            return
        try:
            self._use(Session(path, data, runtime=runtime, threads=threads, features=FEATURES))
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime raises several unrelated classes, and not only where it loads
            raise ModelError(
                f"model {path}: not a model that ONNX Runtime can use ({short(error)}): copy it again, or make it "
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
                f"model {self.path}: it cannot score a window ({short(error)}): train or export it again"
            ) from None

    def logits(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw outputs for a batch.

        Args:
            log_mel: float32 [batch, frames, bands].

        Returns:
            stress logits float32 [batch] and emotion logits float32 [batch, classes].
        """
        return self._backend.run(log_mel)

    def _engine(self, folder: Path | None) -> Backend:
        path = engine_path(engines_folder(folder), self.sha256)
        from edge_sser.backends.engine import open_engine

        return open_engine(path, self.path, self.sha256)

    def _use(self, backend: Backend) -> None:
        """Takes a backend if what it computes is a model's output.

        Raises:
            EngineMissError: what an engine computes is not.
            ModelError: what the file computes is not.
        """
        self._backend, self.card, self.provider = backend, backend.card, backend.provider
        try:
            self._check_outputs()
        except Exception as error:
            backend.close()
            if isinstance(backend, Session):
                raise
            raise EngineMissError(f"it does not compute the model ({short(error)}): build it again") from None

    def _score(self, stress: NDArray[np.float32], emotions: NDArray[np.float32]) -> Score:
        (logit,), (moods,) = stress, emotions
        for value, name in ((logit, "a stress logit"), (moods.sum(), "emotion logits, in sum")):
            if not math.isfinite(value):
                raise ModelError(f"model {self.path}: it gave {value} as {name}: train or export it again")
        shifted = np.exp(moods - moods.max())
        return Score(self.card.calibration.probability(float(logit)), shifted / shifted.sum())

    def _check_outputs(self) -> None:
        """Computes one window, which also warms it up: a graph can promise shapes that it does not keep."""
        silence = np.full((1, FEATURES.frames, FEATURES.bands), FEATURES.floor_db, dtype=np.float32)
        stress, emotions = self._backend.run(silence, limit_seconds=CHECK_SECONDS)
        if stress.shape != (1,) or emotions.shape != (1, len(self.card.emotions)):
            raise ModelError(
                f"model {self.path}: its outputs have the shapes {list(stress.shape)} and {list(emotions.shape)}, "
                f"expected [1] and [1, {len(self.card.emotions)}] as its card says: export it again"
            )
        self._score(stress, emotions)


def _read(path: Path) -> bytes:
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise OSError(None, "Not a regular file")  # a device or a pipe need not end
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"model {path}: {reason}: give an .onnx file made by edge-sser export") from None


def load_model(
    path: Path | None = None,
    *,
    runtime: Runtime | str = Runtime.AUTO,
    threads: int = 1,
    engines: Path | None = None,
) -> Model:
    """Loads a model file, and says in the log what computes it and why.

    Args:
        path: an .onnx file with a card; without it, the one of those that ship which suits what computes it.
        runtime: auto takes an engine that was built from the file, if it is valid here, else the best that ONNX Runtime
            has. It never builds an engine.
        threads: of one inference.
        engines: folder of engines, when it is not the usual one.

    Raises:
        ModelError: as `Model`; or an engine was asked for, and none can be used.
    """
    runtime = Runtime(runtime)
    why, level = f"runtime = {runtime.value}", logging.INFO
    if runtime in (Runtime.AUTO, Runtime.ENGINE):
        misses = []
        for file in [path] if path is not None else shipped_for_engines():
            try:
                model = Model(file, runtime=Runtime.ENGINE, engines=engines)
            except EngineMissError as miss:
                misses.append(miss)
                continue
            log.info("%s is computed by an engine that was built for this machine", model.label)
            return model
        worst = next((each for each in misses if each.refused), misses[0])
        if runtime is Runtime.ENGINE:
            raise ModelError(
                f"no engine can be used: {worst}: build one with edge-sser export FILE.onnx --target tensorrt, or take "
                "--runtime auto"
            )
        why, level = f"no engine: {worst}", logging.WARNING if worst.refused else logging.INFO
    provider = automatic_providers()[0] if runtime is Runtime.AUTO else runtime
    model = Model(path or shipped_for(provider), runtime=runtime, threads=threads)
    if path is None and provider is not Runtime.CPU and model.provider == PROVIDERS[Runtime.CPU]:
        # This ONNX Runtime has another provider, but not what that needs on this machine.
        model = Model(shipped_for(Runtime.CPU), runtime=runtime, threads=threads)
    log.log(level, "%s is computed by ONNX Runtime's %s (%s)", model.label, model.provider, why)
    return model


def open_model(settings: ModelSettings) -> Model:
    """Loads what the settings name; see `load_model`."""
    return load_model(settings.path, runtime=settings.runtime, threads=settings.threads, engines=settings.engines)
