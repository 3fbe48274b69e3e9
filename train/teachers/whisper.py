"""Adapter of Whisper's encoder, trained on half minutes of log-mel frames, to windows of three seconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_sser.pipeline.features import FEATURES

FFT, HOP = 400, 160
POSITIONS = FEATURES.window_samples // (2 * HOP)  # the second convolution has stride 2
RANGE = 8.0  # of log10 power below the loudest value
RMS = 0.1  # of the input, as in recordings at a usual level; the features depend on the level


class WhisperWindows(nn.Module):
    """Whisper's encoder with samples as its input."""

    mel: Tensor

    def __init__(self, encoder: Any) -> None:
        """Wraps an encoder.

        Args:
            encoder: WhisperEncoder of transformers; its positions past the end of a window are cut off.
        """
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        encoder.layerdrop = 0.0  # a dropped layer would give no hidden states
        encoder.max_source_positions = encoder.config.max_source_positions = POSITIONS
        first = encoder.embed_positions.weight[:POSITIONS].detach().clone()
        encoder.embed_positions = nn.Embedding(POSITIONS, first.shape[1], _weight=first)
        self.encoder = encoder
        bank = mel_filter_bank(
            1 + FFT // 2, encoder.config.num_mel_bins, 0.0, 8_000.0, 16_000, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("mel", torch.from_numpy(bank).float(), persistent=False)

    def forward(self, sound: Tensor, *, output_hidden_states: bool) -> Any:
        """Runs WhisperEncoder on windows, float32 [batch, samples] of RMS 1, 16 kHz."""
        return self.encoder(self.features(sound * RMS), output_hidden_states=output_hidden_states)

    def features(self, sound: Tensor) -> Tensor:
        """Returns log-mel frames as in Radford et al. (2022): float32 [batch, bands, frames]."""
        window = torch.hann_window(FFT, device=sound.device)
        with torch.autocast(sound.device.type, enabled=False):  # a logarithm in bfloat16 has steps of 0.3 dB
            spectrum = torch.stft(sound.float(), FFT, HOP, window=window, return_complex=True)
            power = self.mel.T @ spectrum[..., :-1].abs().square()
        level = power.clamp(min=1e-10).log10()
        limited = torch.maximum(level, level.amax(dim=(1, 2), keepdim=True) - RANGE)
        return (limited + 4.0) / 4.0
