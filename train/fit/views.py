"""Windows that a teacher and its student share: made once, so that a slow teacher is asked once for all epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_sser.pipeline.features import FEATURES
from edge_sser.train.teachers.outputs import Outputs, concatenate_outputs

_BATCH = 64  # clips at once


@dataclass(frozen=True, slots=True)
class SharedViews:
    """Augmented windows of each training clip, and the teacher's outputs for them.

    A student that hears a new window in each step needs its teacher in each step, and an encoder takes three times as
    long as the student.

    Attributes:
        windows: float16 [views, clips, frames, bands], dB: 38 kB each.
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
    ask: Callable[[Tensor, Tensor], Outputs],
    clips: int,
    views: int,
    device: torch.device,
    bfloat16: bool,
    progress: Callable[[int], None] = lambda windows: None,
) -> SharedViews:
    """Makes the views of all clips and asks the teachers about them.

    Args:
        make_windows: returns augmented windows, float32 [batch, frames, bands], of clips, int64 [batch].
        ask: returns the teacher's outputs for clips and their windows on `device`, as Lesson.answers.
        clips: number of training clips.
        views: of each clip.
        device: of the teacher, and of its outputs.
        bfloat16: True where the teacher multiplies in bfloat16, as the student does.
        progress: called with the number of windows that are done.
    """
    windows = torch.empty(views * clips, FEATURES.frames, FEATURES.bands, dtype=torch.half)  # no copy of 38 kB a window
    outputs = []
    for first in range(0, views * clips, clips):
        for places in torch.split(torch.arange(clips), _BATCH):
            made = make_windows(places).half()
            windows[first + places] = made
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                outputs.append(ask(places, made.float().to(device)))
            progress(len(places))
    return SharedViews(windows.view(views, clips, *windows.shape[1:]), concatenate_outputs(outputs))
