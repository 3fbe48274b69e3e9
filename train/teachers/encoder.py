"""Speech encoders trained elsewhere on thousands of hours: HuBERT, WavLM, wav2vec 2.0, and the encoder of Whisper.

Hugging Face's transformers holds the networks and reads their weights: safetensors, or older PyTorch files, from which
nothing but tensors is unpickled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.errors import TrainingError, need_package
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.data.features import HOP_FRAMES
from edge_sser.train.teachers.whisper import WhisperWindows

KINDS = ("hubert", "wav2vec2", "wavlm", "whisper")
CONFIG_FILE = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
STEP_FRAMES = 5  # frames of 20 ms averaged into a step: a tenth of a second is fine enough for attention
_OPTIONAL = ("masked_spec_embed",)  # replaces masked frames in training; some published files lack it
_UNUSED = ("decoder.",)  # of Whisper: only its encoder is a teacher
_DITHER = 1e-3  # noise relative to the window's RMS: a microphone gives no digital silence


class Encoder(nn.Module):
    """Speech encoder whose output is the hidden states of all layers."""

    def __init__(self, model: Any, sha256: str) -> None:
        """Wraps a network of transformers.

        Args:
            model: HubertModel, Wav2Vec2Model, WavLMModel or WhisperModel.
            sha256: of the file of weights.
        """
        super().__init__()
        whisper = model.config.model_type == "whisper"
        self.model = WhisperWindows(model.encoder) if whisper else model
        self.blocks: nn.ModuleList = model.encoder.layers
        model.config.layerdrop = 0.0  # a dropped layer would give no hidden states
        self.sha256 = sha256
        self.layers = int(model.config.num_hidden_layers) + 1
        self.dims = int(model.config.hidden_size)

    def forward(self, sound: Tensor) -> Tensor:
        """Returns the hidden states of windows of samples.

        Args:
            sound: float32 [batch, samples], 16 kHz, from `sound_windows`.

        Returns:
            float32 [batch, layers, steps, dims]: the transformer's input and the output of each of its layers, averaged
            over tenths of a second.
        """
        states = self.model(sound, output_hidden_states=True).hidden_states
        stacked: Tensor = torch.stack([F.avg_pool1d(state.transpose(1, 2), STEP_FRAMES) for state in states], dim=1)
        return stacked.transpose(2, 3)


def load_encoder(weights: str, sha256: str = "") -> Encoder:
    """Loads an encoder in evaluation mode.

    Args:
        weights: a folder written by transformers (config.json and model.safetensors or pytorch_model.bin), one of these
            files, or a name on huggingface.co, downloaded once into the cache of huggingface_hub.
        sha256: of the file of weights; not checked when empty.

    Raises:
        MissingComponentError: transformers is not installed.
        TrainingError: the files are missing and cannot be downloaded, are damaged, are not of such an encoder, or have
            another checksum.
    """
    path, digest = find_weights(weights, sha256)
    with quiet_transformers():
        from transformers import AutoModel

        try:
            kind = json.loads((path.parent / CONFIG_FILE).read_text("utf-8")).get("model_type")
            if kind not in KINDS:
                raise TrainingError(f"encoder {path}: it is a {kind}: give one of {', '.join(KINDS)}")
            model, loading = AutoModel.from_pretrained(
                path.parent, local_files_only=True, output_loading_info=True, weights_only=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
            raise TrainingError(
                f"encoder {path}: cannot be read ({str(error).splitlines()[0]}): fetch it again"
            ) from None
    missing = [name for name in loading["missing_keys"] if not name.startswith(_OPTIONAL + _UNUSED)]
    if missing:
        raise TrainingError(f"encoder {path}: {sorted(missing)[0]} is missing: these are not the weights of a {kind}")
    return Encoder(model.float().eval(), digest)  # some files hold half precision


def find_weights(weights: str, sha256: str = "") -> tuple[Path, str]:
    """Returns the file of an encoder's weights and its sha256; arguments and errors as for `load_encoder`."""
    need_package("transformers", "teacher", "A speech encoder")
    path = _find_weights(weights)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 and sha256 != found:
        raise TrainingError(
            f"encoder {path}: its sha256 is {found}, the recipe's encoder.sha256 is {sha256}: fetch it again"
        )
    return path, found


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Reads the tensors of a file of weights by name.

    Raises:
        TrainingError: the file is damaged, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return found
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise TrainingError(f"encoder {path}: cannot be read ({str(error).splitlines()[0]}): fetch it again") from None


def sound_windows(samples: NDArray[np.float32]) -> Tensor:
    """Returns the windows of a clip for an encoder, at the same times as `features.windows`.

    Each window has mean 0 and variance 1, for every encoder: the level must not matter, and encoders that were trained
    on other input normalise it in their first layer.

    Args:
        samples: float32 [n], 16 kHz. A clip shorter than a window is repeated to fill one.

    Returns:
        float32 [windows, FEATURES.window_samples].
    """
    length = FEATURES.window_samples
    if samples.size < length:
        samples = np.resize(samples, length)
    hop = HOP_FRAMES * FEATURES.hop_samples
    starts = range(0, samples.size - length + 1, hop)
    return standardise_sound(torch.from_numpy(np.stack([samples[start : start + length] for start in starts])))


def standardise_sound(sound: Tensor) -> Tensor:
    """Removes the level of float32 [batch, samples] and adds faint noise in place of digital silence."""
    sound = sound - sound.mean(dim=1, keepdim=True)
    sound = sound / sound.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-7)
    noise = torch.randn(sound.shape[1], generator=torch.Generator().manual_seed(0))
    return sound + _DITHER * noise.to(sound.device)


def _find_weights(weights: str) -> Path:
    """Returns the file of weights with its configuration beside it; downloads both where they are missing."""
    path = Path(weights).expanduser()
    if not path.exists():
        return _download(weights)
    folder = path if path.is_dir() else path.parent
    for name in WEIGHT_FILES:
        if (folder / name).is_file() and (folder / CONFIG_FILE).is_file():
            return folder / name
    raise TrainingError(f"encoder {folder}: expected {CONFIG_FILE} and {' or '.join(WEIGHT_FILES)} in it")


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.ERROR)  # every attempt would be logged
    try:
        hf_hub_download(name, CONFIG_FILE)
        for file in WEIGHT_FILES:
            try:
                return Path(hf_hub_download(name, file))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    except Exception as error:  # the network and the hub raise errors of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainingError(
            f"encoder {name}: it cannot be fetched ({reason}): on a machine with a network fetch {CONFIG_FILE} and "
            f"{' or '.join(WEIGHT_FILES)} from https://huggingface.co/{name}/tree/main, and put them in "
            f"{Path(name).absolute()}"
        ) from None
    finally:
        set_verbosity(before)
    raise TrainingError(f"encoder {name}: https://huggingface.co/{name} has neither {' nor '.join(WEIGHT_FILES)}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences progress bars and warnings of transformers; failures still raise."""
    if importlib.util.find_spec("torchvision") is not None:
        from edge_sser.train.students.references.images import import_torchvision

        import_torchvision()  # transformers imports it too, which fails beside a torch without CUDA
    from transformers.utils import logging as notes

    before = notes.get_verbosity()
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    try:
        yield
    finally:
        notes.set_verbosity(before)
        notes.enable_progress_bar()
