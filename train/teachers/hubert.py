"""Speech encoder with a head as a teacher; the head, the top layers or the whole encoder is trained on a fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.pipeline.features import FEATURES
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.data.sampling import Sampler, epoch_size
from edge_sser.train.fit.checkpoint import (
    MODEL_FILE,
    check_header,
    custom_preset,
    data_key,
    describe_corpora,
    load_checkpoint,
)
from edge_sser.train.fit.device import seed_everything
from edge_sser.train.fit.loop import Epoch, train
from edge_sser.train.fit.losses import label_losses, make_targets
from edge_sser.train.fit.task import Task
from edge_sser.train.students.net import Logits, Net
from edge_sser.train.teachers.encoder import Encoder, sound_windows, standardise_sound
from edge_sser.train.teachers.hidden import HiddenStore
from edge_sser.train.teachers.outputs import Outputs, concatenate_outputs
from edge_sser.train.teachers.recipe import TeacherRecipe, TrainedPart

_BATCH = 16  # windows at once in prediction


class EncoderHead(Net):
    """Head of an encoder: a weighted sum of its layers, a projection, and attention pooling over time."""

    def __init__(self, *, layers: int, dims: int, width: int, emotions: int, dropout: float) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(layers))
        self.project = nn.Linear(dims, width)
        self.attention = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, emotions + 2)

    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings, float32 [batch, width], of hidden states [batch, layers, steps, dims]."""
        # Layers differ in scale by orders of magnitude: normalised first, so that their weights are comparable.
        normalised = F.layer_norm(sound.float(), sound.shape[-1:])
        weighted = torch.einsum("l,blsd->bsd", self.layer_weights.softmax(dim=0), normalised)
        steps = F.relu(self.project(weighted))
        weights = self.attention(steps).softmax(dim=1)
        pooled: Tensor = (steps * weights).sum(dim=1)
        return pooled


class _EncoderNet(Net):
    """Encoder with its head; its input is samples."""

    def __init__(self, encoder: Encoder, head: EncoderHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.top = head

    def embed(self, sound: Tensor) -> Tensor:
        return self.top.embed(self.encoder(sound))

    def classify(self, embedded: Tensor) -> Logits:
        return self.top.classify(embedded)


class EncoderTeacher:
    """Teacher of one fold made of a speech encoder; see Teacher."""

    def __init__(self, net: Net, store: HiddenStore | None, description: dict[str, Any], device: torch.device) -> None:
        self._net = net.eval().to(device)
        self._store = store
        self._description = description
        self._device = device

    def __call__(self, clip: Utterance) -> Outputs:
        """See Teacher."""
        if self._store is not None:
            sound = torch.from_numpy(np.array(self._store[clip]))
        else:
            sound = sound_windows(read_audio(clip.path))
        rows = []
        with torch.inference_mode():
            for part in torch.split(sound, _BATCH):
                embedded = self._net.embed(part.to(self._device))
                logits = self._net.classify(embedded)
                rows.append(Outputs(embedded.float().cpu(), logits.emotions.cpu(), logits.stress.cpu()))
        return concatenate_outputs(rows)

    def describe(self) -> dict[str, Any]:
        """See Teacher."""
        return self._description


def fit_encoder_teacher(
    training: Sequence[Utterance],
    recipe: TeacherRecipe,
    encoder: Encoder,
    store: HiddenStore | None,
    folder: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> EncoderTeacher:
    """Trains an encoder's head, and as much of the encoder as the recipe says, on the training side of a fold.

    Args:
        training: utterances to learn from.
        recipe: of the teacher.
        encoder: as loaded; where more than the head is trained, load a new one for each fold.
        store: hidden states of at least these utterances, where the head alone is trained; else None.
        folder: of the fold.
        on_epoch: called after each epoch.

    Raises:
        TrainingError: as for `run.fit`.
        SourceError: a recording cannot be read.
    """
    header = {
        "recipe": recipe.model_dump(mode="json"),
        "encoder": encoder.sha256,
        "emotions": list(EMOTIONS),
        "corpora": describe_corpora(training),
        "data": data_key(training),
        **custom_preset(recipe.preset),
    }
    device = seed_everything(recipe.optimisation)
    task = _EncoderTask(training, recipe, encoder, store, device)
    path = folder / MODEL_FILE
    if path.exists():
        check_header(path, load_checkpoint(path).header, header)
    else:
        train(task, recipe.optimisation, folder, header, on_epoch=on_epoch)
    task.net.load_state_dict(dict(load_checkpoint(path).tensors), strict=False)
    description = {
        "kind": "hubert",
        "recipe": header["recipe"],
        "encoder": encoder.sha256,
        **custom_preset(recipe.preset),
    }
    return EncoderTeacher(task.net, store, description, device)


class _EncoderTask(Task):
    net: Net

    def __init__(
        self,
        training: Sequence[Utterance],
        recipe: TeacherRecipe,
        encoder: Encoder,
        store: HiddenStore | None,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.device = device
        head = EncoderHead(
            layers=encoder.layers,
            dims=encoder.dims,
            width=recipe.head.width,
            emotions=len(EMOTIONS),
            dropout=recipe.head.dropout,
        )
        self.net = head if store else _EncoderNet(_unfreeze(encoder, recipe), head)
        self._recipe = recipe
        self._training = training
        self._store = store
        self._sound = [] if store else [read_audio(utterance.path) for utterance in training]
        clips = epoch_size(recipe.optimisation.clips_per_epoch, len(training))
        self._sampler = Sampler(training, recipe.sampling.shares, clips)
        self._targets = make_targets(training, recipe.preset)
        self.to(device)

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        order = self._sampler.epoch(random)
        np.random.seed(int(random.integers(1 << 32)))  # transformers draws its masks from the global generator
        return order

    def losses(self, places: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        positions = torch.rand(places.numel(), generator=generator).tolist()
        inputs = [self._window(place, position) for place, position in zip(places.tolist(), positions, strict=True)]
        sound = torch.stack(inputs)
        logits = self.net((sound if self._store else standardise_sound(sound)).to(self.device))
        targets = self._targets[places].to(self.device)
        self.accuracy.add(logits, targets)
        return label_losses(logits, targets, self._recipe.losses, self._recipe.optimisation.label_smoothing)

    def _window(self, place: int, position: float) -> Tensor:
        """Returns a window of a clip: stored hidden states, or samples; position 0..1 selects it."""
        if self._store is None:
            return _cut_window(self._sound[place], position)
        states = self._store[self._training[place]]
        # On a CPU, autocast to bfloat16 refuses float16.
        return torch.from_numpy(states[int(position * states.shape[0])].astype(np.float32))

    def rate(self, name: str) -> float:
        return self._recipe.encoder.rate_share if name.startswith("net.encoder.") else 1.0


def _unfreeze(encoder: Encoder, recipe: TeacherRecipe) -> Encoder:
    encoder.requires_grad_(recipe.encoder.trained is TrainedPart.WHOLE)
    if recipe.encoder.trained is TrainedPart.TOP:
        for layer in encoder.blocks[-recipe.encoder.top_layers :]:
            layer.requires_grad_(True)
    return encoder


def _cut_window(samples: NDArray[np.float32], position: float) -> Tensor:
    """Cuts a window of a clip at a position 0..1; a clip shorter than a window is repeated from there."""
    length = FEATURES.window_samples
    if samples.size < length:
        return torch.from_numpy(np.resize(np.roll(samples, -int(position * samples.size)), length))
    start = int(position * (samples.size - length + 1))
    return torch.from_numpy(samples[start : start + length])
