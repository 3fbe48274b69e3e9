"""Windows that a teacher and its student share: made once, so that a slow teacher is asked once for all epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_sser.train.fit.device import has_bfloat16
from edge_sser.train.teachers.ensemble import Ensemble
from edge_sser.train.teachers.outputs import Outputs, concatenate_outputs

_BATCH = 64  # clips at once


@dataclass(frozen=True, slots=True)
class SharedViews:
    """Augmented windows of each training clip, and the teacher's outputs for them.

    A student that hears a new window in each step needs its teacher in each step, and an encoder takes three times as
    long as the student. A few windows of each clip do as well.

    Attributes:
        windows: float16 [views, clips, frames, bands], dB; 38 kB a window.
        outputs: one row a window, in the same order.
    """

    windows: Tensor
    outputs: Outputs

    def draw(self, places: Tensor, generator: torch.Generator) -> tuple[Tensor, Outputs]:
        """Draws a view of each clip of a batch.

        Args:
            places: int64 [batch], indices of the clips.
            generator: the only source of randomness.

        Returns:
            The windows, float32 [batch, frames, bands], and the teacher's outputs for them.
        """
        views, clips = self.windows.shape[:2]
        view = torch.randint(views, places.shape, generator=generator)
        rows = (view * clips + places).to(self.outputs.stress.device)
        return self.windows[view, places].float(), self.outputs[rows]


def make_views(
    make_windows: Callable[[Tensor], Tensor],
    teacher: Ensemble,
    clips: int,
    views: int,
    device: torch.device,
    progress: Callable[[int], None] = lambda windows: None,
) -> SharedViews:
    """Makes the views of all clips and asks the teacher about them.

    Args:
        make_windows: returns augmented windows, float32 [batch, frames, bands], of clips, int64 [batch].
        teacher: on `device`.
        clips: number of training clips.
        views: of each clip.
        device: of the teacher, and of its outputs.
        progress: called with the number of windows that are done.
    """
    windows, outputs = [], []
    for _ in range(views):
        for places in torch.split(torch.arange(clips), _BATCH):
            windows.append(make_windows(places).half())
            with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                outputs.append(teacher.predict_windows(windows[-1].float().to(device)))
            progress(len(places))
    return SharedViews(torch.cat(windows).view(views, clips, *windows[0].shape[1:]), concatenate_outputs(outputs))
