"""Image networks over mel spectrograms, as in studies of transfer from ImageNet to emotion in speech."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import need_package
from edge_sser.settings.section import Ratio, Section
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.references.system import Samples, System, read_settings
from edge_sser.train.references.torch_system import TorchSystem, Training, Windows
from edge_sser.train.students.references.images import ImageKind, ImageNet

BANDS = 128
_FFT, _HOP = 2048, 512  # samples


class Scaling(str, Enum):
    """Scaling of an image's decibels."""

    MIN_MAX = "min-max"
    """To 0..1."""
    Z_SCORE = "z-score"
    """To mean 0 and deviation 1."""


class ImageSettings(Section):
    """Settings of an image network."""

    kind: ImageKind
    weights: str = ""
    """ImageNet's: torchvision's name IMAGENET1K_V1, fetched from its site, or a .pth file; empty: random."""
    scaling: Scaling = Scaling.Z_SCORE
    mask_bands: int = Field(default=16, ge=0, le=BANDS)
    """SpecAugment: one mask of up to this many bands, filled with the image's mean."""
    mask_frames: int = Field(default=24, ge=0)
    """SpecAugment: one mask of up to this many frames of 32 ms."""
    shift: Ratio = 0.2
    """Circular shift in time by up to this share of the image, either way."""
    windows: Windows
    training: Training


def make(settings: Mapping[str, Any], seed: int) -> System:
    """Makes an image network; arguments and errors as for `registry.make`."""
    need_package("librosa", "references", "An image network")
    read = read_settings(ImageSettings, settings, "image network")
    system = TorchSystem(
        partial(mel_image, scaling=read.scaling),
        partial(ImageNet, read.kind, classes=len(EMOTIONS), weights=read.weights),
        read.training,
        seed,
        windows=read.windows,
        augment=partial(alter_images, bands=read.mask_bands, frames=read.mask_frames, shift=read.shift),
    )
    system.remark = f"ImageNet weights: {read.weights}" if read.weights else "random weights in place of ImageNet's"
    return system


def mel_image(samples: Samples, scaling: Scaling) -> Tensor:
    """Returns the scaled mel spectrogram of samples: float32 [128 bands, frames of 32 ms]."""
    import librosa

    power = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=_FFT, hop_length=_HOP, n_mels=BANDS)
    image = torch.from_numpy(librosa.power_to_db(power, ref=1.0, amin=1e-10)).float()
    if scaling is Scaling.MIN_MAX:
        return (image - image.min()) / (image.max() - image.min()).clamp(min=1e-3)
    return (image - image.mean()) / image.std().clamp(min=1e-3)


def alter_images(images: Tensor, generator: torch.Generator, *, bands: int, frames: int, shift: float) -> Tensor:
    """Shifts images in time and masks a stripe of bands and one of frames in each (SpecAugment, Park et al. 2019).

    Args:
        images: float32 [batch, bands, frames].
        generator: of the draws.
        bands: widest mask of bands.
        frames: widest mask of frames.
        shift: largest shift, as a share of the frames.

    Returns:
        The same shape.
    """
    batch, length = images.shape[0], images.shape[2]
    steps = ((2.0 * torch.rand(batch, generator=generator) - 1.0) * shift * length).round().long()
    places = (torch.arange(length) - steps[:, None]) % length  # [batch, frames]
    shifted = images.gather(2, places[:, None, :].expand_as(images))
    hidden = _stripes(shifted.shape[1], bands, batch, generator)[:, :, None]
    hidden = hidden | _stripes(length, frames, batch, generator)[:, None, :]
    return torch.where(hidden, shifted.mean(dim=(1, 2), keepdim=True), shifted)


def _stripes(length: int, widest: int, batch: int, generator: torch.Generator) -> Tensor:
    """Returns where a random stripe of up to `widest` places lies in each row: bool [batch, length]."""
    widths = (torch.rand(batch, 1, generator=generator) * (min(widest, length) + 1)).floor()
    starts = (torch.rand(batch, 1, generator=generator) * (length - widths + 1)).floor()
    places = torch.arange(length)
    return (places >= starts) & (places < starts + widths)
