"""Curves of a run for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_sser.errors import need_package

if TYPE_CHECKING:
    from edge_sser.train.fit.loop import Epoch


def check_tensorboard() -> None:
    """Asks for the package before hours of work.

    Raises:
        MissingComponentError: tensorboard is not installed.
    """
    need_package("tensorboard", "tensorboard", "--tensorboard")


class Board:
    """Writes the losses and scores of each epoch where `tensorboard --logdir` finds them."""

    def __init__(self, folder: Path) -> None:
        """Opens the curves of a run.

        Args:
            folder: of the run; the files stand beside its checkpoints.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add(self, epoch: Epoch) -> None:
        """Adds an epoch and makes it visible."""
        values = {"loss/sum": epoch.loss}
        values |= {f"loss/{name}": value for name, value in epoch.parts.items()}
        values |= {f"right/{name}": value for name, value in epoch.right.items()}
        values |= {f"validation/{name}": value for name, value in epoch.scores.items()}
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()
