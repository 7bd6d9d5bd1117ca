"""What lies at a dotted path of a message type, told from its definition alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_core.errors import did_you_mean
from dql_ros.codecs.joints import NAME_LISTS


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
