"""Reads the few parts of an ONNX file that a policy's graph has, and refuses all others.

ONNX can do more than a policy needs: keep weights in other files, name libraries of operators,
carry graphs inside of graphs, tensors in attributes, functions, metadata. A file is looked through
as it is stored, in protobuf's encoding (protobuf.dev, "Encoding"), before anything else reads it;
a part that is not in `_PARTS` is never skipped, but refused. The numbers are those of onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# The oldest operators that have all that is used: ONNX Runtime 1.14 and later run them.
OPSET, IR_VERSION = 18, 8
# Of the graph's and of its messages' parts; a graph of the paper's sizes has some thousand.
MAX_PARTS = 300_000
MAX_TEXT_BYTES = 1 << 16

FLOAT, INT64 = 1, 7
_INT_ATTRIBUTE, _FLOAT_ATTRIBUTE = 2, 1

# Of each message: the number of a part, its name, and what it is: a number, text, bytes, or
# another message.
_PARTS: dict[str, dict[int, tuple[str, str]]] = {
    "model": {
        1: ("ir_version", "int"),
        2: ("producer_name", "text"),
        3: ("producer_version", "text"),
        6: ("doc_string", "text"),
        7: ("graph", "graph"),
        8: ("opset_import", "opset"),
    },
    "opset": {1: ("domain", "text"), 2: ("version", "int")},
    "graph": {
        1: ("node", "node"),
        2: ("name", "text"),
        5: ("initializer", "tensor"),
        11: ("input", "value"),
        12: ("output", "value"),
    },
    "node": {
        1: ("input", "text"),
        2: ("output", "text"),
        3: ("name", "text"),
        4: ("op_type", "text"),
        5: ("attribute", "attribute"),
        7: ("domain", "text"),
    },
    "attribute": {1: ("name", "text"), 2: ("f", "float"), 3: ("i", "int"), 20: ("type", "int")},
    "tensor": {
        1: ("dims", "int"),
        2: ("data_type", "int"),
        8: ("name", "text"),
        9: ("raw_data", "bytes"),
    },
    "value": {1: ("name", "text"), 2: ("type", "type")},
    "type": {1: ("tensor_type", "tensor type")},
    "tensor type": {1: ("elem_type", "int"), 2: ("shape", "shape")},
    "shape": {1: ("dim", "dimension")},
    "dimension": {1: ("dim_value", "int"), 2: ("dim_param", "text")},
}
_LISTS = {"opset_import", "node", "initializer", "dims", "dim", "attribute"}
_LISTS_OF = {"graph": {"input", "output"}, "node": {"input", "output"}}
# Those that are refused most likely, by name.
_NEEDLESS = {
    ("model", 14): "metadata_props",
    ("model", 20): "training_info",
    ("model", 25): "functions",
    ("graph", 13): "value_info",
    ("graph", 15): "sparse_initializer",
    ("attribute", 5): "a tensor",
    ("attribute", 6): "a subgraph",
    ("attribute", 11): "subgraphs",
    ("attribute", 22): "a sparse tensor",
    ("tensor", 13): "external_data",
    ("tensor", 14): "data_location",
}
_WIRE_TYPES = {"int": {0, 2}, "float": {5}}

Shape = tuple[int | str, ...]


class OnnxError(Exception):
    """Says in half a sentence why a file is no graph of a policy.

    Attributes:
        remedy: How to fix it.
    """

    def __init__(self, reason: str, remedy: str = "export the bundle again") -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True)
class Constant:
    """A tensor in the file.

    Attributes:
        dtype: `FLOAT` or `INT64`.
        shape: Its shape.
        data: Its numbers, little-endian.
    """

    dtype: int
    shape: tuple[int, ...]
    data: memoryview

    @property
    def integers(self) -> list[int]:
        """The numbers of an `INT64` tensor."""
        return [number for (number,) in struct.iter_unpack("<q", self.data)]


@dataclass(frozen=True)
class Node:
    """An operator and what it works on, by names."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, int | float]


@dataclass(frozen=True)
class Graph:
    """A graph of ONNX's own operators.

    Attributes:
        nodes: In the order in which they are computed.
        constants: By name.
        inputs: Shapes by name; a word is the name of a size that is free.
        outputs: Likewise.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Constant]
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def read_graph(content: bytes) -> Graph:
    """Read an ONNX file.

    Raises:
        OnnxError: If it is damaged, or has a part that no policy needs.
    """
    model = _message(memoryview(content), "model", [MAX_PARTS])
    opsets = [(each.get("domain", ""), each.get("version")) for each in model["opset_import"]]
    if opsets != [("", OPSET)] or model.get("ir_version") != IR_VERSION:
        raise OnnxError(f"is not written with ONNX's own operators of version {OPSET} alone")
    graph = _part(model, "graph")
    constants = {_part(each, "name"): _constant(each) for each in graph["initializer"]}
    if len(constants) < len(graph["initializer"]):
        raise OnnxError("has two constants of one name")
    return Graph(
        tuple(map(_node, graph["node"])),
        constants,
        {_part(each, "name"): _shape(each) for each in graph["input"]},
        {_part(each, "name"): _shape(each) for each in graph["output"]},
    )


def _message(data: memoryview, kind: str, parts_left: list[int]) -> dict[str, Any]:
    """Return a message's parts by name; of those that may be there more than once, a list."""
    lists = {name for name, _ in _PARTS[kind].values()} & (_LISTS | _LISTS_OF.get(kind, set()))
    found: dict[str, Any] = {name: [] for name in lists}
    for number, wire_type, value in _encoded(data, parts_left):
        if number not in _PARTS[kind]:
            needless = _NEEDLESS.get((kind, number), f"part {number}")
            raise OnnxError(f"has {needless} in its {kind}, which no policy needs")
        name, content = _PARTS[kind][number]
        if wire_type not in _WIRE_TYPES.get(content, {2}):
            raise OnnxError(f"is damaged at a '{name}'")
        if name in lists:
            found[name] += _decoded(value, name, content, parts_left)
        elif name in found:
            raise OnnxError(f"has '{name}' twice in its {kind}")
        else:
            (found[name],) = _decoded(value, name, content, parts_left)
    return found


def _decoded(value: Any, name: str, content: str, parts_left: list[int]) -> list[Any]:
    """Return what is stored as a part: one value, or many packed numbers."""
    if content in _PARTS:
        return [_message(value, content, parts_left)]
    if content == "float":
        return [struct.unpack("<f", value)[0]]
    if content == "bytes":
        return [value]
    if isinstance(value, int):
        return [_signed(value)]
    if len(value) > MAX_TEXT_BYTES:
        raise OnnxError(f"has {len(value):,} bytes of '{name}'")
    if content == "text":
        try:
            return [bytes(value).decode()]
        except UnicodeDecodeError as cause:
            raise OnnxError(f"has no text as '{name}'") from cause
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(_signed(number))
    if name != "dims":
        raise OnnxError(f"is damaged at a '{name}'")
    return numbers


def _encoded(
    data: memoryview, parts_left: list[int]
) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield the parts of a message as they are stored: number, wire type, content."""
    at = 0
    while at < len(data):
        parts_left[0] -= 1
        if parts_left[0] < 0:
            raise OnnxError(f"has more than {MAX_PARTS:,} parts")
        tag, at = _varint(data, at)
        wire_type = tag & 7
        if wire_type == 0:
            number, at = _varint(data, at)
            yield tag >> 3, wire_type, number
            continue
        sizes = {1: 8, 5: 4}
        size, at = (sizes[wire_type], at) if wire_type in sizes else _varint(data, at)
        if wire_type not in {1, 2, 5} or at + size > len(data):
            raise OnnxError("is damaged, or was cut off")
        yield tag >> 3, wire_type, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise OnnxError("is damaged, or was cut off")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _part(message: dict[str, Any], name: str) -> Any:
    if name not in message:
        raise OnnxError(f"lacks a '{name}'")
    return message[name]


def _node(message: dict[str, Any]) -> Node:
    if message.get("domain", ""):
        raise OnnxError(f"has an operator of '{message['domain']:.80}', not one of ONNX's own")
    attributes = {_part(each, "name"): _number(each) for each in message["attribute"]}
    if len(attributes) < len(message["attribute"]):
        raise OnnxError("has two attributes of one name")
    inputs, outputs = tuple(message["input"]), tuple(message["output"])
    return Node(_part(message, "op_type"), inputs, outputs, attributes)


def _number(attribute: dict[str, Any]) -> int | float:
    """Return an attribute's value, of the type that it is said to have."""
    names = {_INT_ATTRIBUTE: "i", _FLOAT_ATTRIBUTE: "f"}
    name = names.get(attribute.get("type", 0))
    if name is None or set(attribute) != {"name", "type", name}:
        raise OnnxError(f"has an attribute '{attribute['name']:.80}' that is not a plain number")
    value: int | float = attribute[name]
    return value


def _constant(message: dict[str, Any]) -> Constant:
    name, dims = _part(message, "name"), message["dims"]
    dtype, data = _part(message, "data_type"), message.get("raw_data", memoryview(b""))
    size = {FLOAT: 4, INT64: 8}.get(dtype)
    if size is None:
        raise OnnxError(f"has a constant '{name:.80}' that is neither float32 nor int64")
    for length in dims:
        size *= length
    if any(length < 0 for length in dims) or size != len(data):
        raise OnnxError(
            f"has a constant '{name:.80}' of shape {tuple(dims)!s:.80} in {len(data):,} bytes"
        )
    return Constant(dtype, tuple(dims), data)


def _shape(value: dict[str, Any]) -> Shape:
    tensor = _part(_part(value, "type"), "tensor_type")
    if tensor.get("elem_type") != FLOAT:
        raise OnnxError(f"has an input or output '{value['name']:.80}' that is not float32")
    dimensions = _part(tensor, "shape")["dim"]
    return tuple(each.get("dim_value", each.get("dim_param", "?")) for each in dimensions)
