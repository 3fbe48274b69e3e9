"""DenseNet, ResNet and ResNeXt over mel images, from torchvision."""

from __future__ import annotations

import sys
import warnings
from enum import Enum
from pickle import UnpicklingError
from types import ModuleType

import torch
from torch import Tensor, nn

from edge_sser.errors import TrainingError, need_package, short


class ImageKind(str, Enum):
    """Architecture, by torchvision's name."""

    DENSENET161 = "densenet161"
    RESNET50 = "resnet50"
    RESNEXT50 = "resnext50_32x4d"


class ImageNet(nn.Module):
    """Image classifier over a mel image: float32 [batch, bands, frames] to logits."""

    def __init__(self, kind: ImageKind, *, classes: int, weights: str = "") -> None:
        """Builds the network.

        Args:
            kind: architecture.
            classes: number of logits; the classifier is new.
            weights: of ImageNet: torchvision's name such as IMAGENET1K_V1, fetched from its site, or a file of a
                state dict; empty: random.

        Raises:
            MissingComponentError: torchvision is not installed.
            TrainingError: the weights cannot be had.
        """
        super().__init__()
        body: nn.Module = import_torchvision().models.get_model(kind.value, weights=None)
        if weights:
            _load_weights(body, kind, weights)
        name = "classifier" if kind is ImageKind.DENSENET161 else "fc"
        head = getattr(body, name)
        setattr(body, name, nn.Linear(head.in_features, classes))
        self.body = body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits: float32 [batch, classes]."""
        colours = image.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.body(colours)
        return out


def import_torchvision() -> ModuleType:
    """Imports torchvision, also beside a torch without CUDA.

    The registry's wheels of torchvision link CUDA. Beside CPU torch their compiled operators do not load, and the
    import fails where it describes two of them. The networks use neither, so the two are declared and the import is
    repeated. Declaring them first would clash with operators that do load.

    Raises:
        MissingComponentError: torchvision is not installed.
    """
    need_package("torchvision", "references", "An image network")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision
        except RuntimeError:
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for operator in ("nms", "qnms"):
                schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                library.define(schema)  # type: ignore[no-untyped-call]
            _DECLARED.append(library)
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            import torchvision
    module: ModuleType = torchvision
    return module


_DECLARED: list[torch.library.Library] = []  # the operators vanish with their library


def _load_weights(body: nn.Module, kind: ImageKind, weights: str) -> None:
    known = {entry.name: entry for entry in import_torchvision().models.get_model_weights(kind.value)}
    try:
        if weights in known:
            state = known[weights].get_state_dict(check_hash=True)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        body.load_state_dict(state)
    except FileNotFoundError:
        raise TrainingError(
            f"weights {weights}: no such file: give a .pth file of {kind.value}, {' or '.join(known)} to fetch them, "
            "or nothing for random ones"
        ) from None
    except UnpicklingError:
        raise TrainingError(
            f"weights {weights}: not a state dict: give torchvision's .pth file of {kind.value}"
        ) from None
    except (OSError, RuntimeError, TypeError) as error:
        raise TrainingError(
            f"weights {weights} of {kind.value}: {short(error)}: fetch them on a machine with a network and give the "
            ".pth file, or nothing for random ones"
        ) from None
