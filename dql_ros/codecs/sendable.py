"""Whether a stream's commands can be sent as messages of a type, and what they leave unsaid.

A command is made of the type and of the contract's bounds, as a node makes it, and looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError, one_line
from dql_ros.codecs.blank import blank_element, blank_message
from dql_ros.codecs.block_decoder import DAMAGE
from dql_ros.codecs.encoder import StreamEncoder
from dql_ros.codecs.encoding_plan import Place, places_of
from dql_ros.codecs.message_path import MessagePath
from dql_ros.codecs.stream import StreamDecoder
from dql_ros.codecs.transform import StreamTransform
from dql_ros.contract import ActionStream
from dql_ros.contract.field import join_steps, split_path

# Filled by the encoder, or by nobody who sends a command.
_APART = {
    "builtin_interfaces/msg/Duration",
    "builtin_interfaces/msg/Time",
    "std_msgs/msg/Header",
    "std_msgs/msg/MultiArrayLayout",
}
_WHOLE = {"byte": "int8", "char": "uint8"}
MOST_NAMED = 6


def require_sendable(stream: ActionStream, typestore: Typestore) -> None:
    """Check that a command can be sent, and read again.

    Args:
        stream: The commands.
        typestore: Knows their type.

    Raises:
        ContractError: Naming the field that does not take what the contract gives it.
    """
    texts = [stream.frame_id, *stream.joints]
    texts += [each.constant for each in stream.fields if isinstance(each.constant, str)]
    if cut := [text for text in texts if "\0" in text]:
        raise ContractError(
            f"{stream.topic}: {cut[0]!r:.80} has a zero byte, at which ROS 2 ends a text; take it "
            f"out of the contract"
        )
    command = _made(stream, typestore)
    for path, count, description in _lists(typestore, command.message):
        node, (_, limit) = description
        if (node == Nodetype.ARRAY and count != limit) or 0 < limit < count:
            most = "has" if node == Nodetype.ARRAY else "takes at most"
            raise ContractError(
                f"{stream.topic}: '{path}' {most} {limit} elements, and the contract gives "
                f"{count}; select no more of it"
            )
    try:
        typestore.serialize_cdr(command.message, stream.type)
    except DAMAGE as cause:
        require_room(stream, typestore)  # which says it better
        raise ContractError(
            f"{stream.topic}: cannot be sent as {stream.type}: {one_line(cause)}"
        ) from cause
    StreamDecoder(stream)(command.message)


def require_room(stream: ActionStream, typestore: Typestore) -> None:
    """Check that the fields hold all numbers within the contract's bounds, and its constants.

    Args:
        stream: The commands; they can be sent.
        typestore: Knows their type.

    Raises:
        ContractError: Naming the first field that does not.
    """
    command = _made(stream, typestore)
    for place, low, high, is_constant in _ranges(stream):
        _require_room(stream.topic, command.kind(place), place, low, high, is_constant)


def left_out(stream: ActionStream, typestore: Typestore) -> str:
    """Say which texts, whole numbers and flags the contract leaves at 0 or empty in each command.

    Such a field often means a mode or a frame, of which 0 or nothing may be none. Numbers with
    fractions that are left at 0, and lists that are left empty, are usual and not told.

    Args:
        stream: The commands; they can be sent.
        typestore: Knows their type.

    Returns:
        A sentence that begins with the topic, and has the remedy; empty if there are none.
    """
    found = list(_made(stream, typestore).left_out())
    if not found:
        return ""
    listed = ", ".join(f"'{path}'" for path, _ in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    path, is_text = found[0]
    value = "TEXT" if is_text else "NUMBER"
    return (
        f"{stream.topic}: each command has nothing in {listed}{more}, 0 or an empty text; what "
        f"must be another gets a constant, as in {{path: {path}, constant: {value}}}"
    )


@dataclass(frozen=True)
class _Command:
    """A command that was made.

    Attributes:
        stream: What it is of.
        typestore: Knows its type.
        message: It.
    """

    stream: ActionStream
    typestore: Typestore
    message: Any

    def kind(self, place: Place) -> str:
        """The type of the number at a place."""
        owner = MessagePath(place.path, self.stream.topic).owner(self.message)
        node, detail = _fields(self.typestore, owner)[str(split_path(place.path)[-1])]
        return str(detail[0] if node == Nodetype.BASE else detail[0][1][0])

    def left_out(self) -> Iterator[tuple[str, bool]]:
        """Yield the paths of what has nothing and could have something, and whether it is text."""
        texts = [each.path for each in self.stream.fields if isinstance(each.constant, str)]
        filled = {place.path for place in places_of(self.stream)} | set(texts)
        elements = {}  # what contracts call the elements of lists, by their identity
        for path in filled:
            steps = split_path(path)
            for index in range(1, len(steps)):
                prefix = join_steps(steps[:index])
                elements[id(MessagePath(prefix, self.stream.topic).get(self.message))] = prefix
        for path, kind, value in self._scalars(self.message, "", elements):
            is_number = kind == "string" or "float" not in kind
            if path not in filled and is_number and not value:
                yield path, kind == "string"

    def _scalars(
        self, message: Any, prefix: str, elements: dict[int, str]
    ) -> Iterator[tuple[str, str, Any]]:
        """Yield each single field below a message: its path, type and value."""
        for name, (node, detail) in _fields(self.typestore, message).items():
            path, value = f"{prefix}{name}", getattr(message, name)
            if node == Nodetype.BASE:
                yield path, detail[0], value
            elif node == Nodetype.NAME and detail not in _APART:
                yield from self._scalars(value, f"{path}.", elements)
            elif node in {Nodetype.ARRAY, Nodetype.SEQUENCE} and detail[0][0] == Nodetype.NAME:
                for element in value:
                    if id(element) in elements and detail[0][1] not in _APART:
                        yield from self._scalars(element, f"{elements[id(element)]}.", elements)


def _made(stream: ActionStream, typestore: Typestore) -> _Command:
    message = blank_message(typestore, stream.type)
    element = partial(blank_element, typestore)
    StreamEncoder(stream).encode(_rest(stream), message, 0, element)
    return _Command(stream, typestore, message)


def _rest(stream: ActionStream) -> NDArray[np.float64]:
    """A command of zeros, as far as its bounds allow it, without a turn."""
    values: list[float] = []
    for selection in stream.fields:
        if selection.rotation is not None:
            no_turn = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
            values += no_turn if selection.rotation == "6d" else (0.0,)
        else:
            specs = selection.fields(stream.topic)
            values += [min(max(0.0, spec.low), spec.high) for spec in specs]
    return np.array(values)


def _ranges(stream: ActionStream) -> Iterator[tuple[Place, float, float, bool]]:
    """Yield the least and the largest number of each place, and whether it is a constant."""
    for selection in stream.fields:
        alone = stream.model_copy(update={"fields": (selection,)})
        places, specs = places_of(alone), selection.fields(stream.topic)
        lows, highs = np.full((2, len(places)), [[-1.0], [1.0]])
        if selection.rotation is None:
            transform = StreamTransform((selection,))
            ends = [np.array([getattr(spec, side) for spec in specs]) for side in ("low", "high")]
            lows, highs = np.sort([transform.encode(end) for end in ends], axis=0)
        for place, low, high in zip(places, lows.tolist(), highs.tolist(), strict=True):
            yield place, low, high, selection.constant is not None


def _require_room(
    topic: str, kind: str, place: Place, low: float, high: float, is_constant: bool
) -> None:
    """Check that a field's type holds all numbers from ``low`` to ``high``."""
    if kind == "bool":
        return
    if "float" in kind:
        most = float(np.finfo(kind).max)
        least = -most
    else:
        limits = np.iinfo(_WHOLE.get(kind, kind))
        least, most = int(limits.min), int(limits.max)
        if is_constant and not low.is_integer():
            raise ContractError(
                f"{topic}: '{place}' is a {kind} and gets the constant {low:g}; give it a whole "
                f"number"
            )
        low, high = round(low), round(high)
    for number in (low, high):
        if not least <= number <= most:
            what = "the constant" if is_constant else "up to" if number > most else "down to"
            raise ContractError(
                f"{topic}: '{place}' is a {kind}, which has {least:g} to {most:g}, and gets "
                f"{what} {number:g}; correct its 'low', 'high' or 'constant'"
            )


def _fields(typestore: Typestore, message: Any) -> dict[str, Any]:
    return dict(typestore.fielddefs[message.__msgtype__][1])


def _lists(typestore: Typestore, message: Any, prefix: str = "") -> Iterator[tuple[str, int, Any]]:
    """Yield the path, the length and the type of each list and array below a message."""
    for name, description in _fields(typestore, message).items():
        path, value = f"{prefix}{name}", getattr(message, name)
        if description[0] == Nodetype.NAME:
            yield from _lists(typestore, value, f"{path}.")
        elif description[0] != Nodetype.BASE:
            yield path, len(value), description
            if description[1][0][0] == Nodetype.NAME:
                for index, element in enumerate(value):
                    yield from _lists(typestore, element, f"{path}.{index}.")
