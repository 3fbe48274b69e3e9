"""Check of a model file before ONNX Runtime sees it: bounded, made of arithmetic alone, and in one piece.

A graph is a program. It may name other files for its weights, which are then read from the working directory, call
itself for ever, or claim more memory than there is. The check reads the file's Protocol Buffers without the package
onnx, which devices do not have (onnx.proto3 and the encoding are documented at onnx.ai and protobuf.dev).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import mul

MAX_FILE_BYTES = 512 << 20
MAX_TAG = 0xFFFF_FFFF
MAX_NODES = 5_000
MAX_TENSOR_VALUES = 1 << 26  # of one tensor of constants

# Operators of feed-forward and recurrent networks. None has a graph of its own, draws random numbers, or handles text.
_OPERATOR_NAMES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BlackmanWindow Cast
CastLike Ceil Celu Clip Compress Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum
DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor
GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf
IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul
MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu Pad
Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2
ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
Unsqueeze Where Xor
"""
_OPERATORS = frozenset(_OPERATOR_NAMES.split())
_DOMAINS = ("", "ai.onnx")
# Fields of onnx.proto3.
_MODEL_GRAPH, _MODEL_METADATA, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 14, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = (22, 23)
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def read_metadata(data: bytes) -> dict[str, str]:
    """Returns the metadata of a model file with one graph, whatever that holds.

    Raises:
        ValueError: it is no model; the text says why.
    """
    metadata: dict[str, str] = {}
    graphs = 0
    for field, value in _fields(memoryview(data)):
        if field == _MODEL_GRAPH:
            graphs += 1
        elif field == _MODEL_METADATA:
            entry = {number: bytes(_bytes(text)) for number, text in _fields(_bytes(value))}
            metadata[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
    if graphs != 1:
        raise ValueError(f"it holds {graphs} graphs, expected 1")
    return metadata


def check_graph(data: bytes) -> None:
    """Checks the content of a model file.

    Raises:
        ValueError: it is no model, is too large, or uses what a model does not need; the text says what.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it has {len(data)} bytes, more than {MAX_FILE_BYTES}")
    for field, value in _fields(memoryview(data)):
        if field == _MODEL_GRAPH:
            _check_nodes(_bytes(value))
        elif field in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise ValueError("it has functions of its own, which a model does not need")


def _check_nodes(graph: memoryview) -> None:
    nodes = 0
    for field, value in _fields(graph):
        if field == _GRAPH_NODE:
            nodes += 1
            _check_node(_bytes(value))
        elif field == _GRAPH_INITIALIZER:
            _check_tensor(_bytes(value))
        elif field == _GRAPH_SPARSE:
            raise ValueError("it has sparse weights, which a model does not need")
    if nodes > MAX_NODES:
        raise ValueError(f"it has {nodes} nodes, more than {MAX_NODES}")


def _check_node(node: memoryview) -> None:
    operator = domain = ""
    for field, value in _fields(node):
        if field == _NODE_OPERATOR:
            operator = bytes(_bytes(value)).decode()
        elif field == _NODE_DOMAIN:
            domain = bytes(_bytes(value)).decode()
        elif field == _NODE_ATTRIBUTE:
            _check_attribute(_bytes(value))
    if domain not in _DOMAINS or operator not in _OPERATORS:
        raise ValueError(f"its operator {f'{domain}.' if domain else ''}{operator} is not one that a model needs")


def _check_attribute(attribute: memoryview) -> None:
    for field, value in _fields(attribute):
        if field in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            raise ValueError("it has a graph in a graph, as loops do, which a model does not need")
        if field in _ATTRIBUTE_SPARSE:
            raise ValueError("it has sparse weights, which a model does not need")
        if field in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_bytes(value))


def _check_tensor(tensor: memoryview) -> None:
    dims: list[int] = []
    for field, value in _fields(tensor):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
            raise ValueError("its weights lie in another file, and a model must be in one piece")
        if field == _TENSOR_DIMS:
            dims += list(_varints(value)) if isinstance(value, memoryview) else [value]
    values = reduce(mul, dims, 1)
    if values > MAX_TENSOR_VALUES:
        raise ValueError(f"a tensor of it has the shape {dims}, more than {MAX_TENSOR_VALUES} values")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields the number and value of each field of a message: an integer, or the bytes of anything longer."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key > MAX_TAG:  # protobuf cuts it to 32 bits, and would find another field
            raise ValueError("it is no ONNX file")
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield field, value
            continue
        if wire == _BYTES:
            size, place = _varint(message, place)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("it is no ONNX file")
        if size > len(message) - place:
            raise ValueError("it is truncated, or no ONNX file")
        yield field, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if place >= len(message):
            raise ValueError("it is truncated, or no ONNX file")
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("it is no ONNX file")


def _varints(packed: memoryview) -> Iterator[int]:
    place = 0
    while place < len(packed):
        value, place = _varint(packed, place)
        yield value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is no ONNX file")
    return value
