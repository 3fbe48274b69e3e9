"""Column ViT of the SSSR study: a teacher, and a student that learns from its CLS token."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import need_package
from edge_sser.settings.section import Ratio, Section
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.references.system import Clip, Report, Samples, System, read_settings
from edge_sser.train.references.torch_system import TorchSystem, Training, Windows
from edge_sser.train.students.references.column_vit import SIDE, ColumnTransformer

_FFT, _WINDOW, _HOP = 1024, 512, 64  # samples


class ColumnSettings(Section):
    """Settings of a column ViT."""

    depth: int = Field(ge=1, le=12)
    """Transformer blocks: 6 in the teacher, 3 in the student."""
    dropout: Ratio = 0.4
    windows: Windows
    training: Training
    teacher_depth: int = Field(default=6, ge=1, le=12)
    """student alone."""
    teacher: Training | None = None
    """Training of the teacher, on the same clips, before the student's; None: the system is a teacher itself."""
    feature_weight: float = Field(default=10.0, ge=0.0)
    """student alone: weight of the L1 distance between the CLS tokens of both, beside the cross-entropy."""


def make(settings: Mapping[str, Any], seed: int) -> System:
    """Makes the teacher or the student; arguments and errors as for `registry.make`."""
    need_package("librosa", "references", "A column ViT")
    read = read_settings(ColumnSettings, settings, "column-vit")

    def make_net(depth: int, stem: bool) -> ColumnTransformer:
        return ColumnTransformer(depth=depth, stem=stem, classes=len(EMOTIONS), dropout=read.dropout)

    if read.teacher is None:
        return TorchSystem(mel_image, partial(make_net, read.depth, True), read.training, seed, windows=read.windows)
    teacher_net = partial(make_net, read.teacher_depth, True)
    teacher = TorchSystem(mel_image, teacher_net, read.teacher, seed, windows=read.windows)
    student = Student(mel_image, partial(make_net, read.depth, False), read.training, seed, windows=read.windows)
    student.follow(teacher, read.feature_weight)
    return student


def mel_image(samples: Samples) -> Tensor:
    """Returns the mel spectrogram of samples resized to 128 columns and standardised: float32 [128 bands, 128]."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=samples, sr=SAMPLE_RATE, n_fft=_FFT, win_length=_WINDOW, hop_length=_HOP, window="hamming", n_mels=SIDE
    )
    image = torch.from_numpy(librosa.power_to_db(power, ref=1.0, amin=1e-10)).float()
    resized = F.interpolate(image[None, None], size=(SIDE, SIDE), mode="bilinear", antialias=True)[0, 0]
    return (resized - resized.mean()) / resized.std().clamp(min=1e-3)


class Student(TorchSystem):
    """Column ViT that is trained on the labels and on the CLS tokens of a teacher, which is trained first."""

    teacher: TorchSystem
    _weight: float
    _taught: dict[bytes, Tensor]

    def follow(self, teacher: TorchSystem, weight: float) -> None:
        """Sets the teacher and the weight of the distance to its CLS tokens."""
        self.teacher, self._weight, self._taught = teacher, weight, {}
        teacher._kept = self._kept  # the same front end
        self.epochs = self.training.epochs + teacher.training.epochs

    def fit(self, training: Sequence[Clip], validation: Sequence[Clip], report: Report) -> None:
        """Trains the teacher, then the student, on the same clips."""
        self.teacher.fit(training, validation, lambda figures: report({f"teacher_{k}": v for k, v in figures.items()}))
        self.teacher.net.eval()
        self._taught.clear()
        super().fit(training, validation, report)

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Returns cross-entropy and the weighted L1 distance to the teacher's CLS tokens."""
        net = self.net
        assert isinstance(net, ColumnTransformer)
        features = net.cls_features(inputs)
        distance = F.l1_loss(features.float(), self._teacher_features(inputs))
        return F.cross_entropy(net.head(features).float(), labels) + self._weight * distance

    @torch.no_grad()
    def _teacher_features(self, inputs: Tensor) -> Tensor:
        """Returns the teacher's CLS tokens of a batch: float32 [batch, width]; computed once an image."""
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in inputs.cpu().numpy()]
        new = [place for place, key in enumerate(keys) if key not in self._taught]
        if new:
            net = self.teacher.net
            assert isinstance(net, ColumnTransformer)
            for place, features in zip(new, net.cls_features(inputs[new]).float(), strict=True):
                self._taught[keys[place]] = features
        return torch.stack([self._taught[key] for key in keys])
