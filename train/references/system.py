"""Interface of a reference system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_sser.errors import SettingsError

if TYPE_CHECKING:
    from typing import TypeVar

    from torch import Tensor, nn

    from edge_sser.settings.section import Section

    AnySection = TypeVar("AnySection", bound=Section)

Samples = NDArray[np.float32]
Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Clip:
    """A labelled recording.

    Attributes:
        samples: float32 [n], mono, 16 kHz; the whole recording.
        label: place in labels.EMOTIONS.
        corpus: its name, for systems that weigh corpora alike.
    """

    samples: Samples
    label: int
    corpus: str = ""


class System(ABC):
    """Front end, classifier and its training.

    One object serves all folds: `fit` starts anew each time, and what depends on samples alone may be kept between.
    """

    epochs: int = 0
    """Number of epochs at most, for a progress bar; 0 for a system without epochs."""
    window_seconds: float | None = None
    """Length of the sound that one pass of the network covers; None: a whole clip."""
    remark: str = ""
    """Fact that belongs beside every score, such as random weights in place of pretrained ones."""

    @abstractmethod
    def fit(self, training: Sequence[Clip], validation: Sequence[Clip], report: Report) -> None:
        """Trains anew.

        Args:
            training: clips to learn from.
            validation: clips to choose an epoch or a setting on; may be empty.
            report: called with the figures of each epoch: `loss`, and `ua` and `validation_loss` of the validation
                clips where there are some.
        """

    @abstractmethod
    def probabilities(self, clips: Sequence[Samples]) -> NDArray[np.float64]:
        """Returns the probabilities of labels.EMOTIONS: [clips, 8], rows sum to 1."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of parameters of what classifies, a frozen trunk included."""

    def network(self) -> tuple[nn.Module, Tensor] | None:
        """Returns the network in evaluation mode and an example of its input, a batch of one window; None without."""
        return None

    def front_end_window(self, samples: Samples) -> Any:
        """Computes the network's input of one window, to measure its time; systems without a front end do nothing."""
        return None


def read_settings(kind: type[AnySection], settings: Mapping[str, Any], name: str) -> AnySection:
    """Validates the settings of a recipe for a system.

    Raises:
        SettingsError: a key or value is wrong; the message names it.
    """
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        faults = error.errors()
        first = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
        reason = "unknown key, mend it or leave it out" if first["type"] == "extra_forbidden" else first["msg"]
        raise SettingsError(f"{name}: settings.{'.'.join(map(str, first['loc']))}: {reason}") from None
