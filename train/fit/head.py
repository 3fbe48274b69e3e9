"""Stress head of a model file: found in its graph, fitted anew, written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import ModelError
from edge_sser.model.card import Card
from edge_sser.model.onnx_backend import cpu_session

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float64]

PENALTY = 0.05
"""Of the squared distance from the old weights, beside the mean log-loss; one value for every site.

Of 0.001 to 2, it is the largest that still gave all of the gain on 16 speakers of a corpus that the model never heard;
a larger one loses less where few speakers are given.
"""

_REMEDY = "give a file that edge-sser export wrote, or sser-cnn"


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
        ModelError: the head is made otherwise.
    """
    constants = {constant.name: _array(constant) for constant in model.graph.initializer}
    gather, gemm = _head_nodes(model, card)
    if gather is None or gemm is None or not {*gemm.input[1:], gather.input[1]} <= {*constants}:
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


def with_float_head(model: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    """Returns a graph whose head takes the embedding, the weights and the biases in float.

    In a quantised file it reads them through Q/DQ pairs. The stored weights are dequantised; the embedding is taken
    before it is rounded. All else stays in 8 bits.
    """
    result = type(model)()
    result.CopyFrom(model)
    graph = result.graph
    made = {name: node for node in graph.node for name in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    _, gemm = _head_nodes(result, card)
    for place, name in enumerate(gemm.input if gemm is not None else ()):
        pair = made.get(name)
        if gemm is None or pair is None or pair.op_type != "DequantizeLinear":
            continue
        source = pair.input[0]
        if source in constants:
            graph.initializer.append(_dequantised(constants, pair))
        else:
            gemm.input[place] = made[source].input[0]
    _remove_unused(graph)
    return result


def _head_nodes(model: onnx.ModelProto, card: Card) -> tuple[onnx.NodeProto | None, onnx.NodeProto | None]:
    """Returns the Gather that takes the stress logit, and the Gemm that makes it; None for what is made otherwise."""
    made = {name: node for node in model.graph.node for name in node.output}
    gather = made.get(card.outputs[0])
    if gather is None or gather.op_type != "Gather":
        return None, None
    gemm = made.get(gather.input[0])
    return gather, gemm if gemm is not None and gemm.op_type == "Gemm" else None


def _dequantised(constants: Mapping[str, onnx.TensorProto], pair: onnx.NodeProto) -> onnx.TensorProto:
    """Returns the float constant that a DequantizeLinear computes, under the name of its output."""
    from onnx import numpy_helper

    stored, scale, zero = (_array(constants[name]) for name in pair.input)
    axis = next((attribute.i for attribute in pair.attribute if attribute.name == "axis"), 1)
    if scale.size > 1:
        shape = [1] * stored.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    values = (stored.astype(np.float64) - zero) * scale
    return numpy_helper.from_array(values.astype(np.float32), pair.output[0])


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Removes the nodes whose output is now a constant, or that nothing reads, and constants that nothing reads."""
    constants = {constant.name for constant in graph.initializer}
    outputs = {value.name for value in graph.output}
    while True:
        read = {name for node in graph.node for name in node.input} | outputs
        unused = [node for node in graph.node if constants & {*node.output} or not read & {*node.output}]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    for constant in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(constant)


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
        self._session = cpu_session(graph.SerializeToString())
        self._card, self._name = card, place.embedding

    def embed(self, log_mel: NDArray[np.float32]) -> tuple[Floats, float]:
        """Returns means over the windows of a clip: the embedding, float64 [units], and what the emotions vote.

        Args:
            log_mel: float32 [windows, frames, bands].
        """
        card = self._card
        found, emotions = self._session.run([self._name, card.outputs[1]], {card.input: log_mel})
        vote = card.emotion_vote.log_odds(emotions, card.emotions).mean() if card.emotion_vote else 0.0
        return np.asarray(found.mean(axis=0, dtype=np.float64)), float(vote)


def fit_head(
    old: Head,
    embeddings: Floats,
    labels: Floats,
    penalty: float = PENALTY,
    *,
    votes: Floats | float = 0.0,
    share: float = 0.0,
) -> Head:
    """Fits a head by logistic regression, held near the old one (Tikhonov's penalty around its weights).

    Both classes weigh the same. Distances are measured in the standardised embedding, so that a unit's scale plays no
    part; the bias is free.

    Args:
        old: head to start from.
        embeddings: float64 [n, units].
        labels: float64 [n], 0 or 1, both present.
        penalty: of the squared distance from the old weights.
        votes: log-odds of stress that the emotions give, float64 [n].
        share: of the votes in the mean with the head's logit.
    """
    from scipy.optimize import minimize

    centre, scale = embeddings.mean(axis=0), embeddings.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    standard = (embeddings - centre) / scale
    weights = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (labels.size - labels.sum()))
    start = old.weights * scale

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = (1.0 - share) * (standard @ parameters[:-1] + parameters[-1]) + share * votes
        away = parameters[:-1] - start
        error = (1.0 - share) * weights * (1.0 / (1.0 + np.exp(-z.clip(-60.0, 60.0))) - labels)
        value = float(weights @ (np.logaddexp(0.0, z) - labels * z) + 0.5 * penalty * away @ away)
        return value, np.append(standard.T @ error + penalty * away, error.sum())

    first = np.append(start, old.bias + old.weights @ centre)
    found = minimize(loss, first, jac=True, method="L-BFGS-B").x
    row = found[:-1] / scale
    return Head(row, float(found[-1] - row @ centre))


def _array(constant: Any) -> NDArray[Any]:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(constant))
