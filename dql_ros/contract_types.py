"""Whether the messages that a contract names have what it selects, by their definitions alone."""

from __future__ import annotations

from collections.abc import Iterator

from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError, did_you_mean
from dql_ros.codecs import StreamEncoder
from dql_ros.contract import (
    Contract,
    Event,
    FieldSelection,
    FlagStream,
    ObservationStream,
    SignalStream,
    Stream,
)
from dql_ros.type_path import names_path, node_at

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
