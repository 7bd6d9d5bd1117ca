"""Message <-> vector: decoding and encoding by dotted path, index and joint name.

Both directions work on rclpy's message classes and on those of rosbags alike, so that the bag
converter and the nodes share them; encoding is the exact inverse of decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dql_core.errors import ContractError
from dql_ros.contract import ActionStream, FieldSelection, Stream
from dql_ros.message_path import MessagePath, field_names

SECOND_NS = 1_000_000_000

# The fields that name the elements of a message's arrays: of JointState, of JointTrajectory.
NAME_LISTS = ("name", "joint_names")


class StreamDecoder:
    """Turns the messages of one topic into their part of the vector.

    Args:
        stream: The contract's description of the topic.
    """

    def __init__(self, stream: Stream) -> None:
        self._width = stream.width
        self._readers = [
            (_reader(selection, stream.topic), selection.width) for selection in stream.fields
        ]

    def __call__(self, message: Any) -> NDArray[np.float64]:
        """Return the selected numbers, shape (width,).

        Raises:
            ContractError: Naming the topic and the field, joint or index it does not have.
        """
        vector = np.empty(self._width)
        start = 0
        for read, width in self._readers:
            vector[start : start + width] = read(message)
            start += width
        return vector


class StreamEncoder:
    """Fills messages of one topic from their part of the vector.

    Args:
        stream: The contract's description of the topic.
        joint_order: Order of the joints in the message; the contract's by default.

    Raises:
        ContractError: If an element of an array would be left without a value.
    """

    def __init__(self, stream: Stream, joint_order: Sequence[str] = ()) -> None:
        self._stream = stream
        self._joints = _joints(stream, joint_order)
        self._numbers = _number_positions(stream)
        self._arrays = _array_positions(stream, self._joints)

    def encode(
        self,
        values: ArrayLike,
        message: Any,
        stamp_ns: int,
        point_factory: Callable[[], Any] | None = None,
    ) -> Any:
        """Fill ``message`` in place; fields that the contract does not name keep their values.

        Args:
            values: The stream's part of the vector, shape (width,).
            message: A message of the stream's type.
            stamp_ns: Time for the header, if the message has one; in nanoseconds.
            point_factory: Makes a ``JointTrajectoryPoint``; only a JointTrajectory needs it.

        Returns:
            The same message.

        Raises:
            ContractError: Naming a field that the message does not have.
        """
        vector = np.asarray(values, dtype=np.float64)
        if self._joints:
            setattr(message, _name_list(message, self._stream.topic), list(self._joints))
        for path, position in self._numbers:
            path.assign(message, float(vector[position]), point_factory)
        for path, positions in self._arrays:
            path.assign(message, vector[positions], point_factory)
        self._stamp(message, stamp_ns)
        return message

    def _stamp(self, message: Any, stamp_ns: int) -> None:
        header = getattr(message, "header", None)
        if header is not None:
            _set_time(header.stamp, stamp_ns)
        if isinstance(self._stream, ActionStream):
            if header is not None:
                header.frame_id = self._stream.frame_id
            for point in getattr(message, "points", ()):
                if hasattr(point, "time_from_start"):
                    _set_time(
                        point.time_from_start, round(self._stream.time_from_start_s * SECOND_NS)
                    )


def stamp_ns(message: Any, topic: str = "message") -> int:
    """Return a message's header stamp in nanoseconds; ``topic`` is named in the error.

    Raises:
        ContractError: If the message has no header.
    """
    try:
        stamp = message.header.stamp
    except AttributeError as cause:
        raise ContractError(
            f"{topic}: no header to take the time from (the message has: "
            f"{', '.join(field_names(message))}); set 'stamp: receive' for it in the contract"
        ) from cause
    return int(stamp.sec) * SECOND_NS + int(stamp.nanosec)


def _reader(selection: FieldSelection, topic: str) -> Callable[[Any], NDArray[np.float64] | float]:
    path = MessagePath(selection.path, topic)
    if selection.joints:
        return _JointReader(path, selection.joints, topic)
    if selection.indices:
        return _IndexReader(path, selection.indices, topic)
    return path.number


class _IndexReader:
    def __init__(self, path: MessagePath, indices: Sequence[int], topic: str) -> None:
        self._path = path
        self._indices = np.array(indices, dtype=np.intp)
        self._highest = max(indices)
        self._topic = topic

    def __call__(self, message: Any) -> NDArray[np.float64]:
        elements = self._path.numbers(message)
        if len(elements) <= self._highest:
            raise ContractError(
                f"{self._topic}: '{self._path.path}' has {len(elements)} entries, no index "
                f"{self._highest}; correct 'indices' in the contract"
            )
        return elements[self._indices]


class _JointReader:
    """Selects by name; the order is looked up again only when the message's names change."""

    def __init__(self, path: MessagePath, joints: Sequence[str], topic: str) -> None:
        self._path = path
        self._joints = tuple(joints)
        self._topic = topic
        self._names: list[str] | None = None
        self._order = np.empty(0, dtype=np.intp)

    def __call__(self, message: Any) -> NDArray[np.float64]:
        names = getattr(message, _name_list(message, self._topic))
        if names != self._names:
            self._order = self._order_in(names)
            self._names = list(names)
        elements = self._path.numbers(message)
        if len(elements) != len(names):
            raise ContractError(
                f"{self._topic}: '{self._path.path}' has {len(elements)} entries for "
                f"{len(names)} joint names; the publisher must fill it, or the contract do without"
            )
        return elements[self._order]

    def _order_in(self, names: Sequence[str]) -> NDArray[np.intp]:
        for joint in self._joints:
            if names.count(joint) != 1:
                times = "twice" if joint in names else "not"
                raise ContractError(
                    f"{self._topic}: joint '{joint}' is {times} in the message, which names: "
                    f"{', '.join(names) or 'none'}; correct 'joints' in the contract"
                )
        return np.array([names.index(joint) for joint in self._joints], dtype=np.intp)


def _name_list(message: Any, topic: str) -> str:
    for attribute in NAME_LISTS:
        if hasattr(message, attribute):
            return attribute
    raise ContractError(
        f"{topic}: the message names no joints (it has: {', '.join(field_names(message))}); "
        f"select with 'indices' in the contract"
    )


def _joints(stream: Stream, joint_order: Sequence[str]) -> tuple[str, ...]:
    """Joint names in the order in which the message is to list them."""
    named = tuple(dict.fromkeys(joint for field in stream.fields for joint in field.joints))
    if not joint_order:
        return named
    if sorted(joint_order) != sorted(named):
        raise ContractError(
            f"{stream.topic}: the joints to send are {', '.join(joint_order)}, but those of the "
            f"contract are {', '.join(named) or 'none'}"
        )
    return tuple(joint_order)


def _positions(stream: Stream) -> list[tuple[FieldSelection, range]]:
    """Each selection with the positions of its values in the stream's vector."""
    found, start = [], 0
    for selection in stream.fields:
        found.append((selection, range(start, start + selection.width)))
        start += selection.width
    return found


def _number_positions(stream: Stream) -> list[tuple[MessagePath, int]]:
    return [
        (MessagePath(selection.path, stream.topic), positions[0])
        for selection, positions in _positions(stream)
        if not (selection.joints or selection.indices)
    ]


def _array_positions(
    stream: Stream, joints: tuple[str, ...]
) -> list[tuple[MessagePath, NDArray[np.intp]]]:
    """For each array of the message, which position of the vector fills each element."""
    arrays: dict[str, dict[int | str, int]] = {}
    for selection, positions in _positions(stream):
        elements: tuple[int | str, ...] = selection.joints or selection.indices
        if elements:
            arrays.setdefault(selection.path, {}).update(zip(elements, positions, strict=True))
    return [
        (MessagePath(path, stream.topic), _order(stream.topic, path, sources, joints))
        for path, sources in arrays.items()
    ]


def _order(
    topic: str, path: str, sources: dict[int | str, int], joints: tuple[str, ...]
) -> NDArray[np.intp]:
    by_name = any(isinstance(element, str) for element in sources)
    elements: Sequence[int | str] = joints if by_name else range(len(sources))
    for element in elements:
        if element not in sources:
            raise ContractError(
                f"{topic}: '{path}' cannot be sent, since the contract gives "
                f"{'joint' if by_name else 'index'} {element!r} no value; select all elements "
                f"of the array"
            )
    return np.array([sources[element] for element in elements], dtype=np.intp)


def _set_time(time: Any, nanoseconds: int) -> None:
    time.sec, time.nanosec = divmod(nanoseconds, SECOND_NS)
