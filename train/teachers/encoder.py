"""Speech encoders that were trained elsewhere on thousands of hours: HuBERT, WavLM, wav2vec 2.0, and Whisper's.

The networks are those of Hugging Face's transformers, and so is the reading of their weights: safetensors, or older
PyTorch files of which nothing but tensors is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.errors import TrainingError, need_package
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.data.features import HOP_FRAMES
from edge_sser.train.teachers.whisper import WhisperWindows

KINDS = ("hubert", "wav2vec2", "wavlm", "whisper")
CONFIG_FILE = "config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
STEP_FRAMES = 5  # of an encoder's frames of 20 ms are averaged: a tenth of a second is short enough to attend to
_NOT_LEARNT = ("masked_spec_embed",)  # stands in for masked frames in training; some published files lack it
_NOT_USED = ("decoder.",)  # of Whisper, whose words nobody asks for
_DITHER = 1e-3  # of the window's RMS: a microphone gives no digital silence


class Encoder(nn.Module):
    """An encoder's hidden states, of all its layers."""

    def __init__(self, model: Any, sha256: str) -> None:
        """Wraps a network of transformers.

        Args:
            model: HubertModel, Wav2Vec2Model, WavLMModel or WhisperModel.
            sha256: of the file its weights were read from.
        """
        super().__init__()
        whisper = model.config.model_type == "whisper"
        self.model = WhisperWindows(model.encoder) if whisper else model
        self.blocks: nn.ModuleList = model.encoder.layers
        model.config.layerdrop = 0.0  # a layer left out in training would leave no hidden states
        self.sha256 = sha256
        self.layers = int(model.config.num_hidden_layers) + 1
        self.dims = int(model.config.hidden_size)

    def forward(self, sound: Tensor) -> Tensor:
        """Hidden states of windows of samples.

        Args:
            sound: float32 [batch, samples], 16 kHz, from `sound_windows`.

        Returns:
            float32 [batch, layers, steps, dims]: the transformer's input and the output of each of its layers, averaged
            over tenths of a second.
        """
        states = self.model(sound, output_hidden_states=True).hidden_states
        whole: Tensor = torch.stack([F.avg_pool1d(state.transpose(1, 2), STEP_FRAMES) for state in states], dim=1)
        return whole.transpose(2, 3)


def load_encoder(weights: str, sha256: str = "") -> Encoder:
    """An encoder in evaluation mode.

    Args:
        weights: a folder as transformers writes it (config.json and model.safetensors or pytorch_model.bin), one of
            these files, or a name on huggingface.co, fetched once and kept by huggingface_hub.
        sha256: of the file of weights; not checked when empty.

    Raises:
        MissingComponentError: transformers is not installed.
        TrainingError: the files are not there and cannot be fetched, are damaged, are not of such an encoder, or have
            another checksum.
    """
    need_package("transformers", "teacher", "A speech encoder as a teacher")
    path = _find(weights)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 and sha256 != found:
        raise TrainingError(
            f"encoder {path}: its sha256 is {found}, the recipe's encoder.sha256 is {sha256}: fetch it again"
        )
    with _quiet():
        from transformers import AutoModel

        try:
            kind = json.loads((path.parent / CONFIG_FILE).read_text("utf-8")).get("model_type")
            if kind not in KINDS:
                raise TrainingError(f"encoder {path}: it is a {kind}: give one of {', '.join(KINDS)}")
            model, read = AutoModel.from_pretrained(
                path.parent, local_files_only=True, output_loading_info=True, weights_only=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
            raise TrainingError(
                f"encoder {path}: cannot be read ({str(error).splitlines()[0]}): fetch it again"
            ) from None
    missing = [name for name in read["missing_keys"] if not name.startswith(_NOT_LEARNT + _NOT_USED)]
    if missing:
        raise TrainingError(f"encoder {path}: {sorted(missing)[0]} is missing: these are not the weights of a {kind}")
    return Encoder(model.float().eval(), found)  # some files hold half precision


def sound_windows(samples: NDArray[np.float32]) -> Tensor:
    """The windows of a clip for an encoder, at the same places as `dataset.windows` of its features.

    Each has mean 0 and variance 1, whatever the encoder was trained with: the level is not to be told from the sound,
    and encoders that were not trained so have a normalisation of their own as their first layer.

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
    """Takes the level out of float32 [batch, samples], and digital silence with it."""
    sound = sound - sound.mean(dim=1, keepdim=True)
    sound = sound / sound.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-7)
    noise = torch.randn(sound.shape[1], generator=torch.Generator().manual_seed(0))
    return sound + _DITHER * noise.to(sound.device)


def _find(weights: str) -> Path:
    """The file of weights, fetched if need be, with its configuration beside it."""
    place = Path(weights).expanduser()
    if not place.exists():
        return _fetch(weights)
    folder = place if place.is_dir() else place.parent
    for name in WEIGHT_FILES:
        if (folder / name).is_file() and (folder / CONFIG_FILE).is_file():
            return folder / name
    raise TrainingError(f"encoder {folder}: expected {CONFIG_FILE} and {' or '.join(WEIGHT_FILES)} in it")


def _fetch(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.ERROR)  # each try would be told
    try:
        hf_hub_download(name, CONFIG_FILE)
        for file in WEIGHT_FILES:
            try:
                return Path(hf_hub_download(name, file))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    except Exception as error:  # whatever the network or the hub has to say
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
def _quiet() -> Iterator[None]:
    """No progress bars and notes of transformers; what goes wrong is an error."""
    from transformers.utils import logging as notes

    before = notes.get_verbosity()
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    try:
        yield
    finally:
        notes.set_verbosity(before)
        notes.enable_progress_bar()
