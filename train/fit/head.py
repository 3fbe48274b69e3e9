"""Stress head of a model file: found in its graph, fitted anew, written back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import ModelError
from edge_sser.model.card import Card
from edge_sser.model.onnx_backend import onnx_runtime

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float64]

PENALTY = 0.05
"""Of the squared distance from the old weights, beside the mean log-loss; one value for every site.

Of 0.001 to 2, it is the largest that still gave all of the gain on 16 speakers of a corpus that the model never heard;
a larger one loses less where few speakers are given.
"""

_REMEDY = "give the FP32 file that edge-sser export wrote, or sser-cnn"


@dataclass(frozen=True, slots=True)
class Head:
    """Linear head: logit = weights . embedding + bias.

    Attributes:
        weights: float64 [units].
        bias: of the logit.
    """

    weights: Floats
    bias: float

    def logits(self, embeddings: Floats) -> Floats:
        """Returns the stress logits of embeddings: float64 [n] of [n, units]."""
        return np.asarray(embeddings @ self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class HeadPlace:
    """Names of the stress head in a graph.

    Attributes:
        embedding: tensor that goes into the head, [batch, units].
        weight: constant of the weights of all logits.
        bias: constant of their biases.
        row: of the stress logit among them.
        by_row: True when the weights are [logits, units], else [units, logits].
    """

    embedding: str
    weight: str
    bias: str
    row: int
    by_row: bool


def find_head(model: onnx.ModelProto, card: Card, path: Path) -> HeadPlace:
    """Finds the stress head: one Gemm whose logits a Gather takes the stress logit from, as export writes it.

    Raises:
        ModelError: the file is quantised, or its head is made otherwise.
    """
    if card.precision != "fp32":
        raise ModelError(f"model {path}: it is quantised ({card.precision}), which cannot be adapted: {_REMEDY}")
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {constant.name: _array(constant) for constant in model.graph.initializer}
    gather = made.get(card.outputs[0])
    gemm = made.get(gather.input[0]) if gather is not None and gather.op_type == "Gather" else None
    if (
        gather is None
        or gemm is None
        or gemm.op_type != "Gemm"
        or not {*gemm.input[1:], gather.input[1]} <= {*constants}
    ):
        raise ModelError(f"model {path}: its stress head cannot be found in the graph: {_REMEDY}")
    options = {attribute.name: attribute.f or attribute.i for attribute in gemm.attribute}
    index = constants[gather.input[1]]
    if (
        len(gemm.input) != 3
        or options.get("transA", 0)
        or {options.get("alpha", 1.0), options.get("beta", 1.0)} != {1.0}
        or index.size != 1
    ):
        raise ModelError(f"model {path}: its stress head is not a plain one: {_REMEDY}")
    biases = constants[gemm.input[2]]
    return HeadPlace(
        gemm.input[0], gemm.input[1], gemm.input[2], int(index.ravel()[0]) % biases.size, bool(options.get("transB", 0))
    )


def read_head(model: onnx.ModelProto, place: HeadPlace) -> Head:
    """Returns the stress head of a graph."""
    constants = {constant.name: _array(constant) for constant in model.graph.initializer}
    weight = constants[place.weight] if place.by_row else constants[place.weight].T
    return Head(weight[place.row].astype(np.float64), float(constants[place.bias].ravel()[place.row]))


def write_head(model: onnx.ModelProto, place: HeadPlace, head: Head) -> None:
    """Writes a stress head into a graph. The other logits stay as they are."""
    from onnx import numpy_helper

    for constant in model.graph.initializer:
        if constant.name not in (place.weight, place.bias):
            continue
        values = _array(constant).copy()
        if constant.name == place.bias:
            values.reshape(-1)[place.row] = head.bias
        elif place.by_row:
            values[place.row] = head.weights
        else:
            values[:, place.row] = head.weights
        constant.CopyFrom(numpy_helper.from_array(values, constant.name))


class Embedder:
    """Computes a model's embeddings: what goes into its head."""

    def __init__(self, model: onnx.ModelProto, card: Card, place: HeadPlace) -> None:
        """Loads a copy of the graph that gives the embedding out too; the file's outputs stay as they are."""
        from onnx import TensorProto, helper

        graph = type(model)()
        graph.CopyFrom(model)
        graph.graph.output.append(helper.make_tensor_value_info(place.embedding, TensorProto.FLOAT, None))
        runtime = onnx_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = runtime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._input, self._name = card.input, place.embedding

    def embed(self, log_mel: NDArray[np.float32]) -> Floats:
        """Returns the mean embedding of a clip's windows: float64 [units] of float32 [windows, frames, bands]."""
        (found,) = self._session.run([self._name], {self._input: log_mel})
        return np.asarray(found.mean(axis=0, dtype=np.float64))


def fit_head(old: Head, embeddings: Floats, labels: Floats, penalty: float = PENALTY) -> Head:
    """Fits a head by logistic regression, held near the old one (Tikhonov's penalty around its weights).

    Both classes weigh the same. Distances are measured in the standardised embedding, so that a unit's scale plays no
    part; the bias is free.

    Args:
        old: head to start from.
        embeddings: float64 [n, units].
        labels: float64 [n], 0 or 1, both present.
        penalty: of the squared distance from the old weights.
    """
    from scipy.optimize import minimize

    centre, scale = embeddings.mean(axis=0), embeddings.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    standard = (embeddings - centre) / scale
    weights = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (labels.size - labels.sum()))
    start = old.weights * scale

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = standard @ parameters[:-1] + parameters[-1]
        away = parameters[:-1] - start
        error = weights * (1.0 / (1.0 + np.exp(-z.clip(-60.0, 60.0))) - labels)
        value = float(weights @ (np.logaddexp(0.0, z) - labels * z) + 0.5 * penalty * away @ away)
        return value, np.append(standard.T @ error + penalty * away, error.sum())

    first = np.append(start, old.bias + old.weights @ centre)
    found = minimize(loss, first, jac=True, method="L-BFGS-B").x
    row = found[:-1] / scale
    return Head(row, float(found[-1] - row @ centre))


def _array(constant: Any) -> NDArray[Any]:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(constant))
