"""Whether the messages that a contract names have what it selects, by their definitions alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError, did_you_mean
from dql_ros.codecs import StreamEncoder
from dql_ros.codecs.installed import goal_part
from dql_ros.codecs.message_path import NAME_LISTS, is_name, name_list_paths
from dql_ros.codecs.sendable import left_out, require_room, require_sendable
from dql_ros.contract import (
    ActionStream,
    Contract,
    Event,
    FieldSelection,
    FlagStream,
    SignalStream,
    Stream,
    TransformStream,
    is_text,
)
from dql_ros.contract.field import Named, Step, join_steps, split_path

# What the kinds of `TypeNode` are called where another was needed.
_WORDS = {
    "number": "a number",
    "text": "a text",
    "array": "an array of numbers",
    "texts": "a list of texts",
    "list": "a list of messages",
    "message": "a message",
}


# Kinds of `TypeNode` that can say which element of a list it is.
_NAMES = frozenset({"text", "number"})


class Flaw(Enum):
    """What is wrong with what a contract asks of a type."""

    UNKNOWN_TYPE = auto()
    NOT_IN_TYPE = auto()
    NOT_SENDABLE = auto()


@dataclass(frozen=True)
class TypeProblem:
    """Something that a contract asks of a topic's type and the type does not have.

    Attributes:
        flaw: What is wrong.
        key: The contract's key: ``observation.0``.
        topic: The topic.
        text: What is wrong, in words.
        path: The path of the selection that asks for it; empty for what concerns the whole type.
    """

    flaw: Flaw
    key: str
    topic: str
    text: str
    path: str = ""

    def __str__(self) -> str:
        """The problem in a sentence that begins with the key."""
        return f"{self.key} ({self.topic}): {self.text}"


def type_problems(
    contract: Contract, typestore_of: Callable[[str], Typestore]
) -> list[TypeProblem]:
    """Return all that the contract asks of its topics' types and they do not have.

    Args:
        contract: A valid contract.
        typestore_of: Gives a type store that knows a type; one without it if nobody does.
    """
    return [
        problem
        for key, rule in _rules(contract)
        for problem in topic_problems(key, rule, typestore_of(rule.type))
    ]


def topic_problems(
    key: str, rule: Stream | SignalStream | Event, typestore: Typestore
) -> Iterator[TypeProblem]:
    """Yield what one section of a contract asks of its topic's type and the type does not have.

    Args:
        key: The section's key.
        rule: The section.
        typestore: Knows the type.
    """
    for flaw, path, text in _problems(rule, typestore):
        yield TypeProblem(flaw, key, rule.topic, text, path)


def command_warnings(stream: ActionStream, typestore: Typestore) -> Iterator[str]:
    """Yield what of a stream's commands can be sent, but perhaps not as it was meant.

    Args:
        stream: The commands; nothing is wrong with them.
        typestore: Knows their type.
    """
    try:
        require_room(stream, typestore)
    except ContractError as cause:
        yield f"{cause}; the policy node refuses it"
    if stream.send_as is not None:
        try:
            goal_part(stream.send_as.type, stream.type)
        except ContractError as cause:
            yield f"{stream.topic}: {cause}; the policy node refuses it"
    if text := left_out(stream, typestore):
        yield text


def _problems(
    rule: Stream | SignalStream | Event, typestore: Typestore
) -> Iterator[tuple[Flaw, str, str]]:
    """Yield each flaw, the path of the selection that has it, and its text."""
    if rule.type not in typestore.fielddefs:
        # Of services the standard types have requests and responses only, no events.
        if "/srv/" not in rule.type:
            text = f"unknown type '{rule.type}'{did_you_mean(rule.type, typestore.fielddefs)}"
            yield Flaw.UNKNOWN_TYPE, "", text
    elif isinstance(rule, Stream):
        yield from _stream_problems(rule, typestore)
    else:
        for text in _signal_problems(rule, typestore):
            yield Flaw.NOT_IN_TYPE, rule.path or "", text


def _stream_problems(stream: Stream, typestore: Typestore) -> Iterator[tuple[Flaw, str, str]]:
    if isinstance(stream, TransformStream):
        try:
            node_at(typestore, stream.type, "transforms.0.child_frame_id")
        except ValueError:
            yield Flaw.NOT_IN_TYPE, "", f"{stream.type} has no transforms; correct 'type'"
        return
    fits = True
    for selection in stream.fields:
        for text in _selection_problems(selection, stream.type, typestore):
            fits = False
            yield Flaw.NOT_IN_TYPE, selection.path, text
    if stream.stamp == "header":
        try:
            node_at(typestore, stream.type, "header.stamp.sec")
        except ValueError:
            yield Flaw.NOT_IN_TYPE, "", f"{stream.type} has no header; set 'stamp: receive'"
    if isinstance(stream, ActionStream):
        try:
            StreamEncoder(stream)
            if fits:
                require_sendable(stream, typestore)
        except ContractError as cause:
            yield Flaw.NOT_SENDABLE, "", str(cause).removeprefix(f"{stream.topic}: ")


def _rules(contract: Contract) -> Iterator[tuple[str, Stream | SignalStream | Event]]:
    for section, streams in (("observation", contract.observation), ("action", contract.action)):
        for index, stream in enumerate(streams):
            yield f"{section}.{index}", stream
    named: dict[str, SignalStream | Event] = {**contract.signals, **contract.events}
    for name, signal in named.items():
        yield name if name == "reward" else f"episode.{name}", signal


def _selection_problems(
    selection: FieldSelection, msgtype: str, typestore: Typestore
) -> Iterator[str]:
    wrong = set()
    if isinstance(selection.constant, str):
        yield from _text_problems(selection, msgtype, typestore)
    for path, key in selection.elements:
        try:
            node = node_at(typestore, msgtype, path)
        except ValueError as cause:
            yield str(cause)
            return
        blind = blind_index(typestore, msgtype, path)
        if blind is not None and blind not in wrong:
            wrong.add(blind)
            yield blind
        needed = "number" if key is None else "array"
        if node.kind != needed and path not in wrong:
            wrong.add(path)
            remedy = ""
            if _fields(typestore, node).keys() >= set("xyzw"):
                remedy = "; a quaternion takes 'rotation: 6d'"
            yield f"'{path}' is {_WORDS[node.kind]}, not {_WORDS[needed]}{remedy}"
        elif isinstance(key, int) and node.length is not None and key >= node.length:
            yield f"'{path}' has {node.length} elements, no index {key}"
    if selection.joints and not wrong and names_path(typestore, msgtype, selection.path) is None:
        yield f"{msgtype} names no joints for '{selection.path}'; select with 'indices'"


def _text_problems(selection: FieldSelection, msgtype: str, typestore: Typestore) -> Iterator[str]:
    try:
        node = node_at(typestore, msgtype, selection.path)
    except ValueError as cause:
        yield str(cause)
        return
    if node.kind != "text":
        yield (
            f"'{selection.path}' is {_WORDS[node.kind]}, not a text as the constant "
            f"'{selection.constant}'"
        )


def _signal_problems(signal: SignalStream | Event, typestore: Typestore) -> Iterator[str]:
    if signal.path is None:
        return
    try:
        kind = node_at(typestore, signal.type, signal.path).kind
    except ValueError as cause:
        yield str(cause)
        return
    blind = blind_index(typestore, signal.type, signal.path)
    if blind is not None:
        yield blind
    equals = signal.equals if isinstance(signal, FlagStream | Event) else None
    allowed = {"text"} if is_text(equals) else {"number"}
    if isinstance(signal, Event) and equals is None:
        allowed = {"number", "text"}
    if kind not in allowed:
        needed = " or ".join(_WORDS[each] for each in sorted(allowed))
        yield f"'{signal.path}' is {_WORDS[kind]}, not {needed}"


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
    """Return what a message of a type has at a path.

    Raises:
        ValueError: Naming the part of the path that it does not have, and what it has.
    """
    nodes = [TypeNode("message", msgtype)]
    for step in split_path(path) if path else ():
        nodes.append(_next(typestore, nodes, step, path))
    return nodes[-1]


def _next(typestore: Typestore, nodes: list[TypeNode], step: Step, path: str) -> TypeNode:
    """Take one step from the last of the nodes, each of which has the next."""
    node = nodes[-1]
    if isinstance(step, Named):
        element = _element(typestore, node, 0, path)
        beside = any(_fields(typestore, each).get(step.key) == "texts" for each in nodes[:-1])
        if not beside and element.kind != "message":
            raise ValueError(f"no names called '{step.key}' for '{path}'")
        if not beside and node_at(typestore, element.name, step.key).kind not in _NAMES:
            raise ValueError(f"'{step.key}' is no name, for '{path}'")
        return element
    if isinstance(step, int):
        return _element(typestore, node, step, path)
    fields = dict(typestore.get_msgdef(node.name).fields) if node.kind == "message" else {}
    if step not in fields:
        what = did_you_mean(step, fields) or f": there is a {node.name}"
        raise ValueError(f"no field '{step}' for '{path}'{what}")
    return _described(fields[step])


def _fields(typestore: Typestore, node: TypeNode) -> dict[str, str]:
    """The kinds of a message's fields by name; none for what is no message."""
    if node.kind != "message":
        return {}
    fields = typestore.get_msgdef(node.name).fields
    return {name: _described(description).kind for name, description in fields}


def blind_index(typestore: Typestore, msgtype: str, path: str) -> str | None:
    """Say what is wrong if a path takes by its place what has a name; ``None`` if nothing is.

    Args:
        typestore: Knows the type.
        msgtype: A message's type.
        path: A path that it has.
    """
    nodes = [TypeNode("message", msgtype)]
    steps = split_path(path)
    for index, step in enumerate(steps):
        nodes.append(_next(typestore, nodes, step, path))
        if not isinstance(step, int):
            continue
        key = _key_of_names(typestore, nodes)
        if key is not None:
            wanted = join_steps((*steps[:index], Named(key, "NAME"), *steps[index + 1 :]))
            return (
                f"'{path}' takes whatever comes at place {step} of '{join_steps(steps[:index])}', "
                f"whose elements have names; write {wanted}"
            )
    return None


def _key_of_names(typestore: Typestore, nodes: Sequence[TypeNode]) -> str | None:
    """What the names of a list are called, of which the last of the nodes is an element."""
    element = nodes[-1]
    if element.kind != "message":
        return None
    fields = _fields(typestore, element)
    own = [name for name, kind in fields.items() if kind == "text" and is_name(name)]
    if own:
        return own[0]
    kinds = set(fields.values())
    if {"array", "list"} & kinds and "texts" not in kinds:
        return None  # names beside the list are of these, as of the positions of a trajectory
    for node in reversed(nodes[:-1]):
        beside = [key for key in NAME_LISTS if _fields(typestore, node).get(key) == "texts"]
        if beside:
            return beside[0]
    return None


def names_path(typestore: Typestore, msgtype: str, path: str) -> str | None:
    """Return where the joint names of the array at ``path`` are: beside it, or above."""
    for candidate in name_list_paths(path):
        with suppress(ValueError):
            if node_at(typestore, msgtype, candidate).kind == "texts":
                return candidate
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
