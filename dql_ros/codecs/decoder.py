"""Message -> vector: by dotted path, index and joint name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_ros.codecs.joints import JointOrder, name_list_path
from dql_ros.codecs.message_path import MessagePath
from dql_ros.codecs.transform import StreamTransform
from dql_ros.contract import FieldSelection, Stream

Reader = Callable[[Any], NDArray[np.float64] | float]
log = logging.getLogger(__name__)


class StreamDecoder:
    """Turns the messages of one topic into their part of the vector.

    Attributes:
        by_index: How many messages named no joints and were read in the contract's order.

    Args:
        stream: The contract's description of the topic.
    """

    def __init__(self, stream: Stream) -> None:
        self.by_index = 0
        self._topic = stream.topic
        self._transform = StreamTransform(stream.fields)
        order = JointOrder(stream.topic, stream.joints, stream.unnamed == "by_index")
        self._readers: list[tuple[Reader, int]] = []
        self._joint_readers: list[_JointReader] = []
        for selection in stream.fields:
            self._add_readers(selection, order)

    def __call__(self, message: Any) -> NDArray[np.float64]:
        """Return the selected numbers, shape (width,).

        Raises:
            ContractError: Naming the topic and the field, joint or index it does not have.
        """
        numbers = np.empty((1, self._transform.num_read))
        start = 0
        for read, width in self._readers:
            numbers[0, start : start + width] = read(message)
            start += width
        self._note_unnamed()
        vector: NDArray[np.float64] = self._transform.decode(numbers)[0]
        return vector

    def _add_readers(self, selection: FieldSelection, order: JointOrder) -> None:
        elements = selection.read_elements
        if selection.joints and elements:
            path = MessagePath(selection.path, self._topic)
            reader = _JointReader(path, selection.joints, order, self._topic)
            self._joint_readers.append(reader)
            self._readers.append((reader, len(elements)))
        elif selection.indices and elements:
            path = MessagePath(selection.path, self._topic)
            indices = [int(element.key) for element in elements if element.key is not None]
            self._readers.append((_IndexReader(path, indices, self._topic), len(indices)))
        else:
            for element in elements:
                self._readers.append((MessagePath(element.path, self._topic).number, 1))

    def _note_unnamed(self) -> None:
        if any(reader.is_unnamed for reader in self._joint_readers):
            if self.by_index == 0:
                log.warning(
                    "%s: messages name no joints; they are read in the contract's order, as it "
                    "allows",
                    self._topic,
                )
            self.by_index += 1


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

    def __init__(
        self, path: MessagePath, joints: Sequence[str], order: JointOrder, topic: str
    ) -> None:
        self._path = path
        self._joints = tuple(joints)
        self._order = order
        self._topic = topic
        self._names_path: MessagePath | None = None
        self._names: list[str] | None = None
        self._length = -1
        self._positions = np.empty(0, dtype=np.intp)

    @property
    def is_unnamed(self) -> bool:
        """Whether the last message named no joints."""
        return not self._names

    def __call__(self, message: Any) -> NDArray[np.float64]:
        if self._names_path is None:
            names_path = name_list_path(message, self._path.path, self._topic)
            self._names_path = MessagePath(names_path, self._topic)
        names = self._names_path.get(message)
        elements = self._path.numbers(message)
        if names != self._names or len(elements) != self._length:
            self._positions = self._order.positions(
                self._joints, names, self._path.path, len(elements)
            )
            self._names, self._length = list(names), len(elements)
        return elements[self._positions]
