"""Hidden states of a frozen encoder for all windows of many clips, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sser.pipeline.features import FEATURES
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import HOP_FRAMES, load_array, save_array
from edge_sser.train.fit.device import has_bfloat16
from edge_sser.train.teachers.encoder import STEP_FRAMES, Encoder, sound_windows

CLIPS_A_FILE = 200
_BATCH = 16  # windows at once


class HiddenStore:
    """Hidden states as float16 in files of 200 clips each, so that an interrupted computation resumes.

    A window of HuBERT base takes 0.6 MB, one of the large encoders 1.5 MB.
    """

    def __init__(
        self,
        encoder: Encoder,
        utterances: Sequence[Utterance],
        folder: Path,
        device: torch.device,
        progress: Callable[[Utterance], None] = lambda utterance: None,
    ) -> None:
        """Opens the store; computes files that are missing.

        Args:
            encoder: in evaluation mode.
            utterances: whose states to compute.
            folder: of the files; the names are hashes of the input.
            device: to compute on.
            progress: called after each utterance, computed or found.

        Raises:
            SourceError: a recording cannot be read.
            TrainingError: the states cannot be written.
        """
        precision = " bfloat16" if has_bfloat16(device) else ""
        settings = f"{encoder.sha256} {STEP_FRAMES} {HOP_FRAMES} {FEATURES.window_samples}{precision}"
        self._states: dict[str, NDArray[np.float16]] = {}
        encoder.to(device)
        for first in range(0, len(utterances), CLIPS_A_FILE):
            clips = utterances[first : first + CLIPS_A_FILE]
            key = hashlib.sha256(" ".join((settings, *(clip.sha256 for clip in clips))).encode()).hexdigest()[:16]
            path, counts = folder / f"hidden-{key}.npy", folder / f"hidden-{key}.windows.npy"
            if not (path.exists() and counts.exists()):
                states = []
                for clip in clips:
                    states.append(_compute_states(encoder, clip, device))
                    progress(clip)
                save_array(counts, np.array([part.shape[0] for part in states]))
                save_array(path, np.concatenate(states))
            else:
                for clip in clips:
                    progress(clip)
            ends = np.cumsum(load_array(counts))
            all_states = load_array(path, mapped=True)
            for clip, start, end in zip(clips, (0, *ends[:-1]), ends, strict=True):
                self._states[clip.sha256] = all_states[start:end]

    def __getitem__(self, utterance: Utterance) -> NDArray[np.float16]:
        """Returns the hidden states of a clip's windows: float16 [windows, layers, steps, dims]."""
        return self._states[utterance.sha256]


def _compute_states(encoder: Encoder, clip: Utterance, device: torch.device) -> NDArray[np.float16]:
    parts: list[Tensor] = []
    with torch.inference_mode():
        for part in torch.split(sound_windows(read_audio(clip.path)), _BATCH):
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                states = encoder(part.to(device))
            parts.append(states.half().cpu())
    return np.asarray(torch.cat(parts).numpy())
