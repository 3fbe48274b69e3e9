"""Extracts YAMNet's layers from its Keras file, for `initial.weights` of recipe sser-yamnet.

    pip install h5py
    curl -O https://storage.googleapis.com/audioset/yamnet.h5      # Apache 2.0, The TensorFlow Authors
    python scripts/yamnet_weights.py yamnet.h5 yamnet.safetensors

The batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

Arrays = Mapping[str, NDArray[np.float32]]
EPSILON = 1e-4  # of YAMNet's batch norms, which have no scale
PARTS = {"conv": "pw", "depthwise_conv": "dw", "pointwise_conv": "pw"}
NAME = re.compile(r"layer(\d+)/(conv|depthwise_conv|pointwise_conv)/(bn/)?(\w+?)(:0)?$")


def read_arrays(path: Path) -> Arrays:
    """Reads all arrays of a Keras file by their path in it."""
    import h5py

    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def fold(arrays: Arrays) -> dict[str, Tensor]:
    """Returns the convolutions as `NN.dw.w`, `NN.dw.b`, `NN.pw.w` and `NN.pw.b`: float16 [out, in, frames, bands].

    Raises:
        KeyError: an array of a layer is missing.
    """
    layers: dict[tuple[int, str], dict[str, NDArray[np.float32]]] = {}
    for name, values in arrays.items():
        match = NAME.search(name)
        if match:
            layers.setdefault((int(match[1]), match[2]), {})[match[4]] = values
    found = {}
    for (layer, part), values in sorted(layers.items()):
        scale = 1.0 / np.sqrt(values["moving_variance"] + EPSILON)
        if part == "depthwise_conv":
            kernel = values["depthwise_kernel"].transpose(2, 3, 0, 1)
        else:
            kernel = values["kernel"].transpose(3, 2, 0, 1)
        name = f"{layer:02d}.{PARTS[part]}"
        found[f"{name}.w"] = torch.from_numpy(np.ascontiguousarray(kernel * scale[:, None, None, None])).half()
        found[f"{name}.b"] = torch.from_numpy(values["beta"] - values["moving_mean"] * scale).half()
    return found


if __name__ == "__main__":
    save_file(fold(read_arrays(Path(sys.argv[1]))), sys.argv[2])
