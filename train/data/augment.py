"""Augmentation of the student's input in mel band powers, one batch at a time.

Working on band powers rather than on samples makes a batch cost 20 ms where filters and room convolutions on audio
cost seconds: powers of independent sounds add, an equaliser is a gain a band, and a room's decay is a convolution of
each band's power with an exponential (Polack's model of late reverberation, 1988). Interference between sounds is lost.
Effects that need samples, such as codecs and clipping, are in waveform.py. Noise frames come from white noise that
passes through the feature extraction, so that they fluctuate as real frames do, or from recordings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edge_sser.pipeline.features import FEATURES, LogMel, hertz_to_mel, mel_to_hertz
from edge_sser.train.data.settings import Augmentation

_SILENT_DB = -120.0
_TALKERS = 5  # in babble: fewer can be understood, more sound like a hum
_LOUD_DB = 20.0  # below a window's loudest value; in a clip of speech, frames above that are speech


class Augmenter:
    """Makes training windows from whole clips; the same generator state gives the same windows."""

    def __init__(self, settings: Augmentation, recorded: Tensor | None = None, babble: Tensor | None = None) -> None:
        """Prepares the mel axis and white noise.

        Args:
            settings: of the recipe.
            recorded: output of `waveform.noise_bank`, float32 [frames, bands]; None without recorded noise.
            babble: output of `babble_bank`, the same shape; None without babble.
        """
        self.settings = settings
        self._recorded = recorded
        self._babble = babble
        self.frames = FEATURES.frames
        mel = np.linspace(hertz_to_mel(FEATURES.low_hz), hertz_to_mel(FEATURES.high_hz), FEATURES.bands + 2)
        self._mel = torch.from_numpy(mel[1:-1]).float()
        self._mel_step = float(mel[1] - mel[0])
        self._hertz = torch.from_numpy(mel_to_hertz(mel[1:-1])).float()
        white = np.random.default_rng(0).standard_normal(60 * FEATURES.sample_rate).astype(np.float32)
        noise = 10.0 ** (torch.from_numpy(LogMel().push(white)[FEATURES.frames // 10 :]) / 10.0)
        self._noise = noise / noise.mean()

    def __call__(self, clips: list[Tensor], generator: torch.Generator, rows: Tensor | None = None) -> Tensor:
        """Returns one augmented window of each clip.

        Args:
            clips: float [frames, bands] each, dB, any number of frames.
            generator: the only source of randomness.
            rows: indices of the clips to return; None: all. A clip gives the same window either way.

        Returns:
            float32 [batch, frames, bands], dB.
        """
        settings = self.settings
        draw = _RandomDraws(len(clips), generator, rows)
        clips = clips if rows is None else [clips[row] for row in rows.tolist()]
        power = _power(self._keep_piece(self._crop(clips, draw), draw))
        power = self._reverberate(power, draw)
        power = power * _power(self._equaliser(draw))
        power = self._add_noise(power, draw)
        window = _decibels(power) + draw.uniform(-settings.gain_db, settings.gain_db)[:, None, None]
        return self._mask(window, draw)

    def _crop(self, clips: list[Tensor], draw: _RandomDraws) -> Tensor:
        """Cuts a window of each clip at a random time, time and frequency scaled: [batch, frames, bands] in dB."""
        settings = self.settings
        warped = draw.chance(settings.warp)
        speed = torch.where(warped, 1.0 + draw.uniform(-settings.speed, settings.speed), 1.0)
        rate = speed * torch.where(warped, 1.0 + draw.uniform(-settings.stretch, settings.stretch), 1.0)
        lengths = torch.tensor([clip.shape[0] for clip in clips], dtype=torch.float32)
        loop = draw.chance(settings.loop) & (lengths < self.frames * rate)
        span = self.frames * rate
        earliest = torch.minimum(-torch.full_like(span, settings.overhang_frames), lengths - span)
        latest = torch.maximum(lengths - span + settings.overhang_frames, torch.zeros_like(span))
        start = (earliest + draw.uniform() * (latest - earliest)).round()  # whole frames, so that no window is blurred
        position = start[:, None] + torch.arange(self.frames) * rate[:, None]  # [batch, frames], in frames of the clip
        position = torch.where(loop[:, None], position % lengths[:, None], position)
        below = position.floor()
        fraction = (position - below)[:, :, None]
        below = below.long()
        window = torch.empty(len(clips), self.frames, FEATURES.bands)
        for index, clip in enumerate(clips):
            last = clip.shape[0] - 1
            low = clip[below[index].clamp(0, last)]
            high = clip[(below[index] + 1).clamp(0, last)]
            window[index] = torch.lerp(low.float(), high.float(), fraction[index])
        outside = (position < 0) | (position > lengths[:, None] - 1)
        window[outside & ~loop[:, None]] = _SILENT_DB
        return self._shift_bands(window, speed)

    def _keep_piece(self, window: Tensor, draw: _RandomDraws) -> Tensor:
        """Silences some windows outside a piece with a loud frame in its middle half, so that noise fills the rest."""
        settings = self.settings
        if not settings.piece:
            return window
        level = window.amax(dim=2)
        loud = (level > level.amax(dim=1, keepdim=True) - _LOUD_DB).cumsum(dim=1)
        middle = (loud <= (draw.uniform() * loud[:, -1]).floor()[:, None]).sum(dim=1)  # a random loud frame
        length = draw.uniform(*settings.piece_s) * (FEATURES.sample_rate / FEATURES.hop_samples)
        first = middle - (0.25 + 0.5 * draw.uniform()) * length
        frame = torch.arange(self.frames)
        inside = (frame >= first[:, None]) & (frame < (first + length)[:, None])
        hidden = draw.chance(settings.piece)[:, None] & ~inside
        return window.masked_fill(hidden[:, :, None], _SILENT_DB)

    def _shift_bands(self, window: Tensor, speed: Tensor) -> Tensor:
        """Moves each band as playing at `speed` does: it takes the value at its frequency divided by speed."""
        source = 2595.0 * torch.log10(1.0 + self._hertz / (700.0 * speed[:, None]))
        position = ((source - self._mel[0]) / self._mel_step).clamp(0, FEATURES.bands - 1)  # [batch, bands]
        below = position.floor().clamp(max=FEATURES.bands - 2).long()
        fraction = (position - below)[:, None, :]
        low = window.gather(2, below[:, None, :].expand_as(window))
        high = window.gather(2, (below + 1)[:, None, :].expand_as(window))
        return torch.lerp(low, high, fraction.expand_as(window))

    def _reverberate(self, power: Tensor, draw: _RandomDraws) -> Tensor:
        settings = self.settings
        rt60 = draw.uniform(*settings.room_rt60_s)
        direct = _power(draw.uniform(*settings.room_direct_db))
        chosen = draw.chance(settings.room).nonzero().squeeze(1)
        if chosen.numel() == 0:
            return power
        # Walls and air absorb high frequencies first: the top band decays in half the time of the lowest.
        decay = rt60[chosen, None] * torch.linspace(1.0, 0.5, FEATURES.bands)  # [chosen, bands]
        time = torch.arange(1, 101) * (FEATURES.hop_samples / FEATURES.sample_rate)
        tail = torch.exp(-13.8 * time[None, :, None] / decay[:, None, :])
        tail = tail / (tail.sum(dim=1, keepdim=True) * direct[chosen, None, None])
        size = self.frames + tail.shape[1]
        dry = power[chosen]
        wet = torch.fft.irfft(torch.fft.rfft(dry, size, dim=1) * torch.fft.rfft(tail, size, dim=1), size, dim=1)
        out = power.clone()
        out[chosen, :1] = dry[:, :1]
        out[chosen, 1:] = dry[:, 1:] + wet[:, : self.frames - 1].clamp(min=0.0)
        return out

    def _equaliser(self, draw: _RandomDraws) -> Tensor:
        """Returns the gain of each band: [batch, 1, bands], dB."""
        settings = self.settings
        axis = torch.linspace(-1.0, 1.0, FEATURES.bands)
        gain = draw.uniform(-settings.tilt_db, settings.tilt_db)[:, None] * axis
        for waves in (1, 2, 3):
            height = draw.uniform(-settings.ripple_db, settings.ripple_db)[:, None] / waves
            gain = gain + height * torch.cos(np.pi * waves * axis + 2 * np.pi * draw.uniform()[:, None])
        top = draw.uniform(3_000.0, 7_000.0)[:, None]
        bottom = draw.uniform(60.0, 350.0)[:, None]
        limited = draw.chance(settings.band_limit)[:, None]
        cut = (self._hertz > top) | (self._hertz < bottom)
        return torch.where(limited & cut, gain - 45.0, gain)[:, None, :]

    def _add_noise(self, power: Tensor, draw: _RandomDraws) -> Tensor:
        settings = self.settings
        batch = power.shape[0]
        noise = self._noise_window(self._noise, draw)
        octaves = torch.log2(self._hertz / 1_000.0)
        noise = noise * _power(draw.uniform(*settings.noise_tilt_db)[:, None] * octaves)[:, None, :]
        if settings.recorded_noise and self._recorded is not None:
            recorded = self._noise_window(self._recorded, draw)
            noise = torch.where(draw.chance(settings.recorded_noise)[:, None, None], recorded, noise)
        if settings.babble and self._babble is not None:
            babble = self._noise_window(self._babble, draw)
            noise = torch.where(draw.chance(settings.babble)[:, None, None], babble, noise)
        snr = _power(draw.uniform(*settings.noise_snr_db))
        added = torch.where(draw.chance(settings.noise), 1.0, 1e-4)  # never digital silence: else 40 dB fainter
        mean = power.sum(dim=2).mean(dim=1).clamp(min=1e-9)
        scale = added * mean / (snr * noise.sum(dim=2).mean(dim=1)).clamp(min=1e-9)
        return power + noise * scale.view(batch, 1, 1)

    def _noise_window(self, bank: Tensor, draw: _RandomDraws) -> Tensor:
        """Returns a window of a noise bank at a random time for each clip: [batch, frames, bands]."""
        start = (draw.uniform() * (bank.shape[0] - self.frames)).long()
        return bank[start[:, None] + torch.arange(self.frames)]

    def _mask(self, window: Tensor, draw: _RandomDraws) -> Tensor:
        settings = self.settings
        mean = window.mean(dim=(1, 2), keepdim=True)
        hidden = torch.zeros_like(window, dtype=torch.bool)
        for _ in range(2):
            for longest, axis, size in (
                (settings.mask_frames, 1, self.frames),
                (settings.mask_bands, 2, FEATURES.bands),
            ):
                width = draw.uniform(0, longest)
                first = draw.uniform() * (size - width)
                index = torch.arange(size)
                inside = (index >= first[:, None]) & (index < (first + width)[:, None])
                hidden |= inside[:, :, None] if axis == 1 else inside[:, None, :]
        return torch.where(hidden, mean, window)


def babble_bank(clips: Sequence[Tensor], seed: int) -> Tensor:
    """Returns mel band powers of several people who talk at once: float32 [frames, bands], mean 1, two minutes.

    Args:
        clips: float [frames, bands] each, dB, of the training side.
        seed: of the choice of clips.
    """
    random = np.random.default_rng(seed)
    frames = 120 * FEATURES.sample_rate // FEATURES.hop_samples
    bank = torch.zeros(frames, FEATURES.bands)
    for _ in range(_TALKERS):
        parts: list[Tensor] = []
        while sum(part.shape[0] for part in parts) < frames:
            power = _power(clips[int(random.integers(len(clips)))].float())
            parts.append(power / power.mean().clamp(min=1e-12))
        bank += torch.cat(parts)[:frames]
    return bank / bank.mean()


class _RandomDraws:
    """Random numbers, one for each clip."""

    def __init__(self, batch: int, generator: torch.Generator, rows: Tensor | None) -> None:
        self._batch = batch
        self._generator = generator
        self._rows = slice(None) if rows is None else rows

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(self._batch, generator=self._generator)[self._rows]

    def chance(self, probability: float) -> Tensor:
        return self.uniform() < probability


def _power(decibels: Tensor) -> Tensor:
    return torch.exp(decibels * (np.log(10.0) / 10.0))


def _decibels(power: Tensor) -> Tensor:
    return torch.log10(power.clamp(min=1e-12)) * 10.0
