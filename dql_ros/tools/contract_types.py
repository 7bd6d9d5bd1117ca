"""Whether the messages that a contract names have what it selects, by their definitions alone.

What lies at a dotted path of a message type, told from its definition alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError, did_you_mean
from dql_ros.codecs import StreamEncoder
from dql_ros.codecs.joints import NAME_LISTS
from dql_ros.contract import (
    Contract,
    Event,
    FieldSelection,
    FlagStream,
    ObservationStream,
    SignalStream,
    Stream,
)

# What the kinds of `TypeNode` are called where another was needed.
_WORDS = {
    "number": "a number",
    "text": "a text",
    "array": "an array of numbers",
    "texts": "a list of texts",
    "list": "a list of messages",
    "message": "a message",
}


def type_problems(contract: Contract, typestore: Typestore) -> list[str]:
    """Return all that the contract asks of its topics' types and they do not have.

    Args:
        contract: A valid contract.
        typestore: Knows the types: those of a bag, or ROS 2's standard ones.

    Returns:
        A sentence each, beginning with the key that is wrong.
    """
    return list(_problems(contract, typestore))


def _problems(contract: Contract, typestore: Typestore) -> Iterator[str]:
    for section, streams in (("observation", contract.observation), ("action", contract.action)):
        for index, stream in enumerate(streams):
            for problem in _stream_problems(stream, typestore):
                yield f"{section}.{index} ({stream.topic}): {problem}"
    named: dict[str, SignalStream | Event] = {**contract.signals, **contract.events}
    for key, signal in named.items():
        for problem in _signal_problems(signal, typestore):
            yield f"{key if key == 'reward' else f'episode.{key}'} ({signal.topic}): {problem}"


def _stream_problems(stream: Stream, typestore: Typestore) -> Iterator[str]:
    if stream.type not in typestore.fielddefs:
        yield _unknown_type(stream.type, typestore)
        return
    for selection in stream.fields:
        yield from _selection_problems(selection, stream.type, typestore)
    if stream.stamp == "header":
        try:
            node_at(typestore, stream.type, "header.stamp.sec")
        except ValueError:
            yield f"{stream.type} has no header; set 'stamp: receive'"
    if not isinstance(stream, ObservationStream):
        try:
            StreamEncoder(stream)
        except ContractError as cause:
            yield str(cause).removeprefix(f"{stream.topic}: ")


def _selection_problems(
    selection: FieldSelection, msgtype: str, typestore: Typestore
) -> Iterator[str]:
    told = set()
    for path, key in selection.elements:
        try:
            node = node_at(typestore, msgtype, path)
        except ValueError as cause:
            yield str(cause)
            return
        needed = "number" if key is None else "array"
        if node.kind != needed and path not in told:
            told.add(path)
            yield f"'{path}' is {_WORDS[node.kind]}, not {_WORDS[needed]}"
        elif isinstance(key, int) and node.length is not None and key >= node.length:
            yield f"'{path}' has {node.length} elements, no index {key}"
    if selection.joints and not told and names_path(typestore, msgtype, selection.path) is None:
        yield f"{msgtype} names no joints for '{selection.path}'; select with 'indices'"


def _signal_problems(signal: SignalStream | Event, typestore: Typestore) -> Iterator[str]:
    if signal.type not in typestore.fielddefs:
        # Of services the standard types have requests and responses only, no events.
        if "/srv/" not in signal.type:
            yield _unknown_type(signal.type, typestore)
        return
    if signal.path is None:
        return
    try:
        kind = node_at(typestore, signal.type, signal.path).kind
    except ValueError as cause:
        yield str(cause)
        return
    equals = signal.equals if isinstance(signal, FlagStream | Event) else None
    allowed = {"text"} if isinstance(equals, str) else {"number"}
    if isinstance(signal, Event) and equals is None:
        allowed = {"number", "text"}
    if kind not in allowed:
        needed = " or ".join(_WORDS[each] for each in sorted(allowed))
        yield f"'{signal.path}' is {_WORDS[kind]}, not {needed}"


def _unknown_type(msgtype: str, typestore: Typestore) -> str:
    return f"unknown type '{msgtype}'{did_you_mean(msgtype, typestore.fielddefs)}"


@dataclass(frozen=True)
class TypeNode:
    """A part of a message type.

    Attributes:
        kind: ``number``, ``text``, ``array`` (of numbers), ``texts``, ``list`` (of messages), or
            ``message``.
        name: The type's name.
        length: How many elements it always has; ``None`` if that differs from message to message.
    """

    kind: str
    name: str
    length: int | None = None


def node_at(typestore: Typestore, msgtype: str, path: str) -> TypeNode:
    """Return what a message of a type has at a dotted path.

    Raises:
        ValueError: Naming the part of the path that it does not have, and what it has.
    """
    node = TypeNode("message", msgtype)
    for part in path.split(".") if path else ():
        if part.isdigit():
            node = _element(typestore, node, int(part), path)
            continue
        fields = dict(typestore.get_msgdef(node.name).fields) if node.kind == "message" else {}
        if part not in fields:
            what = did_you_mean(part, fields) or f": there is a {node.name}"
            raise ValueError(f"no field '{part}' for '{path}'{what}")
        node = _described(fields[part])
    return node


def names_path(typestore: Typestore, msgtype: str, path: str) -> str | None:
    """Return where the joint names of the array at ``path`` are: beside it, or above."""
    ancestors = path.split(".")[:-1]
    for depth in range(len(ancestors), -1, -1):
        for name in NAME_LISTS:
            candidate = ".".join([*ancestors[:depth], name])
            try:
                if node_at(typestore, msgtype, candidate).kind == "texts":
                    return candidate
            except ValueError:
                continue
    return None


def _element(typestore: Typestore, node: TypeNode, index: int, path: str) -> TypeNode:
    inner = {"array": "number", "texts": "text", "list": "message"}.get(node.kind)
    if inner is None:
        raise ValueError(f"'{path}' asks for element {index} of a {node.name}")
    if node.length is not None and index >= node.length:
        raise ValueError(f"'{path}' asks for element {index} of {node.length}")
    return TypeNode(inner, node.name)


def _described(description: Any) -> TypeNode:
    node, detail = description
    if node == Nodetype.NAME:
        return TypeNode("message", detail)
    if node == Nodetype.BASE:
        return TypeNode("text" if "string" in detail[0] else "number", detail[0])
    length = detail[1] if node == Nodetype.ARRAY else None
    inner = _described(detail[0])
    kinds = {"message": "list", "text": "texts", "number": "array"}
    return TypeNode(kinds[inner.kind], inner.name, length)
