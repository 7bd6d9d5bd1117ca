"""From vectors to messages: numbers, names, texts and times of a stream, in a message of any type.

rclpy's message classes and those of rosbags are filled alike. It is the inverse of decoding: exact
where no unit is converted, no rotation takes another form, and the field can hold the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dql_core.errors import ContractError
from dql_ros.codecs.encoding_plan import Filling, Place, Planner, places_of, require_whole
from dql_ros.codecs.message_path import MessagePath, NewElement
from dql_ros.codecs.stamps import set_time
from dql_ros.codecs.transform import StreamTransform
from dql_ros.contract import Stream


class StreamEncoder:
    """Fills messages of one topic from their part of the vector.

    Args:
        stream: The contract's description of the topic.
        joint_order: Order of the joints in the message; the contract's by default.
        unknown: What the elements of an array have that the contract does not select, as in a
            state of more joints than are observed; 0 in arrays of whole numbers. By default they
            are an error.

    Raises:
        ContractError: If an element of a list would be left without a value, or has two.
    """

    def __init__(
        self, stream: Stream, joint_order: Sequence[str] = (), unknown: float | None = None
    ) -> None:
        self._stream, self._unknown = stream, unknown
        self._joint_order = _ranks(stream, joint_order)
        self._transform = StreamTransform(stream.fields)
        self._places = places_of(stream)
        self._numbers = [
            (MessagePath(path, stream.topic), position)
            for position, (path, key) in enumerate(self._places)
            if key is None
        ]
        self._texts = [
            (MessagePath(selection.path, stream.topic), selection.constant)
            for selection in stream.fields
            if isinstance(selection.constant, str)
        ]
        filled = [*self._places, *(Place(path.path, None) for path, _ in self._texts)]
        require_whole(stream.topic, filled, may_lack=unknown is not None)
        self._filling: Filling | None = None

    def encode(
        self,
        values: ArrayLike,
        message: Any,
        stamp_ns: int,
        new_element: NewElement | None = None,
    ) -> Any:
        """Fill ``message`` in place; fields that the contract does not name keep their values.

        Args:
            values: The stream's part of the vector, shape (width,).
            message: A message of the stream's type; the first one as it is made.
            stamp_ns: Time for the stamps on the way to a number; in nanoseconds.
            new_element: Makes an element of a list that lacks one, such as a trajectory's.

        Returns:
            The same message.

        Raises:
            ContractError: Naming a field that the message does not have or that does not take its
                value, or an element of a list that would be left without one.
        """
        if self._filling is None:
            self._filling = self._planned(message, new_element)
        filling = self._filling
        for path, names in filling.names:
            path.replace(message, list(names), new_element)
        numbers = self._transform.encode(np.asarray(values, dtype=np.float64))
        for path, position in self._numbers:
            path.assign(message, float(numbers[position]), new_element)
        for array in filling.arrays:
            # One more number than there are, for positions of -1.
            elements = np.append(numbers, array.unknown)[array.positions]
            array.path.assign(message, elements, new_element)
        for path, text in self._texts:
            path.assign(message, text, new_element)
        self._stamp(filling, message, stamp_ns)
        return message

    def _planned(self, message: Any, new_element: NewElement | None) -> Filling:
        for path, _ in self._places:
            MessagePath(path, self._stream.topic).owner(message, new_element)
        for text, _ in self._texts:
            text.owner(message, new_element)
        planner = Planner(self._stream, self._places, self._joint_order, self._unknown, message)
        return planner.filling()

    def _stamp(self, filling: Filling, message: Any, stamp_ns: int) -> None:
        for path in filling.stamps:
            set_time(path.get(message), stamp_ns)
        for path, frame_id in filling.frame_ids:
            path.replace(message, frame_id)
        for path, due_ns in filling.due_ns:
            set_time(path.get(message), due_ns)


def _ranks(stream: Stream, joint_order: Sequence[str]) -> dict[str, int]:
    """The place of each joint in the order in which messages are to list them, if one is asked."""
    if joint_order and sorted(joint_order) != sorted(stream.joints):
        raise ContractError(
            f"{stream.topic}: the joints to send are {', '.join(joint_order)}, but those of the "
            f"contract are {', '.join(stream.joints) or 'none'}"
        )
    return {joint: rank for rank, joint in enumerate(joint_order)}
