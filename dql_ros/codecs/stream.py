"""From messages to vectors, one message at a time: by dotted path, index and joint name.

rclpy's message classes and those of rosbags are read alike, so that the bag converter and the
nodes share the code. `dql_ros.codecs.encoder` is the inverse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_ros.codecs.message_path import (
    AbsentError,
    JointOrder,
    MessagePath,
    PlaceNames,
    is_list,
    name_list_path,
    name_list_paths,
)
from dql_ros.codecs.names_seen import NamesSeen, ParentFrames, selected_names
from dql_ros.codecs.transform import StreamTransform
from dql_ros.codecs.wide_integers import IntegerOffsets
from dql_ros.contract import ActionStream, FieldSelection, Stream
from dql_ros.contract.field import join_steps, split_path

Reader = Callable[[Any], NDArray[np.float64] | float]
log = logging.getLogger(__name__)


class CommandEndedError(AbsentError):
    """A trajectory without points of our joints: no command is in force from now on."""


class StreamDecoder:
    """Turns the messages of one topic into their part of the vector.

    Attributes:
        by_index: How many messages named no joints and were read in the contract's order.
        names_seen: The names in messages that have not got what is selected.
        integers: What is subtracted from large integers.

    Args:
        stream: The contract's description of the topic.
    """

    def __init__(self, stream: Stream) -> None:
        self.by_index = 0
        self._topic = stream.topic
        self._transform = StreamTransform(stream.fields, are_offset=True)
        order = JointOrder(stream.topic, stream.joints, stream.unnamed == "by_index")
        self._readers: list[tuple[Reader, int]] = []
        self._raw: list[Callable[[Any], Any]] = []  # a number as the message has it
        self._joint_readers: list[_JointReader] = []
        for selection in stream.fields:
            self._add_readers(selection, order)
        self.integers = IntegerOffsets(stream.fields)
        self._wide_columns = sorted(self.integers.columns)
        points = _points_path(stream)
        self._stop = None if points is None else _Stop(stream, points)
        self._place_names, self._parents = PlaceNames(stream), ParentFrames(stream)
        self.names_seen = NamesSeen(stream)

    def __call__(self, message: Any) -> NDArray[np.float64]:
        """Return the selected numbers, shape (width,).

        Raises:
            CommandEndedError: If it is a trajectory without points that names one of the selected
                joints, or none at all: a command to stop.
            AbsentError: If this message has not got what is selected.
            ContractError: Naming the topic and the field, joint or index it does not have.
        """
        numbers = np.empty((1, self._transform.num_read))
        start = 0
        self.check(message)
        try:
            for read, width in self._readers:
                numbers[0, start : start + width] = read(message)
                start += width
            for column in self._wide_columns:
                exact = self.integers.subtracted(column, self._raw[column](message))
                numbers[0, column] = numbers[0, column] if exact is None else exact
        except AbsentError as absence:
            if self._stop is not None and self._stop.is_in(message):
                raise CommandEndedError(f"{self._topic}: a trajectory without points") from absence
            self.names_seen.note(absence)
            raise
        self._note_unnamed()
        vector: NDArray[np.float64] = self._transform.decode(numbers)[0]
        return vector

    def check(self, message: Any) -> None:
        """Refuse what is taken by its place and has a name, and a name that means another thing.

        Raises:
            ContractError: If there is such a thing.
        """
        self._place_names.check(message)
        self._parents.check(message)

    def _add_readers(self, selection: FieldSelection, order: JointOrder) -> None:
        elements = selection.read_elements
        if selection.joints and elements:
            path = MessagePath(selection.path, self._topic)
            reader = _JointReader(path, selection.joints, order, self._topic)
            self._joint_readers.append(reader)
            self._readers.append((reader, len(elements)))
            self._raw += [partial(reader.raw, position) for position in range(len(elements))]
        elif selection.indices and elements:
            path = MessagePath(selection.path, self._topic)
            indices = [int(element.key) for element in elements if element.key is not None]
            by_index = _IndexReader(path, indices, self._topic)
            self._readers.append((by_index, len(indices)))
            self._raw += [partial(by_index.raw, position) for position in range(len(indices))]
        else:
            for element in elements:
                path = MessagePath(element.path, self._topic)
                self._readers.append((path.number, 1))
                self._raw.append(path.get)

    def _note_unnamed(self) -> None:
        if any(reader.is_unnamed for reader in self._joint_readers):
            if self.by_index == 0:
                log.warning(
                    "%s: messages name no joints; they are read in the contract's order, as it "
                    "allows",
                    self._topic,
                )
            self.by_index += 1


def _points_path(stream: Stream) -> str | None:
    """Path of the list of points that the commands of an action stream are taken from."""
    if not (isinstance(stream, ActionStream) and "Trajectory" in stream.type):
        return None
    for path in (element.path for field in stream.fields for element in field.read_elements):
        steps = split_path(path)
        if "points" in steps[:-1]:
            return join_steps(steps[: steps.index("points") + 1])
    return None


class _Stop:
    """Finds trajectories without points that stop what a stream commands.

    Args:
        stream: The commands.
        points: Path of the list of points.
    """

    def __init__(self, stream: Stream, points: str) -> None:
        self._points = MessagePath(points, stream.topic)
        self._names = [MessagePath(path, stream.topic) for path in name_list_paths(points)]
        self._ours = {name for names in selected_names(stream).values() for name in names}

    def is_in(self, message: Any) -> bool:
        """Whether the message has no points, and names one of the stream's joints or nothing."""
        if len(self._points.get(message)):
            return False
        names = self._names_in(message)
        return not (names and self._ours) or not self._ours.isdisjoint(names)

    def _names_in(self, message: Any) -> Sequence[str]:
        for path in self._names:
            with suppress(ContractError):
                names: Sequence[str] = path.get(message)
                if is_list(names):
                    return names
        return ()


class _IndexReader:
    def __init__(self, path: MessagePath, indices: Sequence[int], topic: str) -> None:
        self._path = path
        self._indices = np.array(indices, dtype=np.intp)
        self._highest = max(indices)
        self._topic = topic

    def __call__(self, message: Any) -> NDArray[np.float64]:
        elements = self._path.numbers(message)
        if len(elements) <= self._highest:
            raise AbsentError(
                f"{self._topic}: '{self._path.path}' has {len(elements)} entries, no index "
                f"{self._highest}; correct 'indices' in the contract"
            )
        return elements[self._indices]

    def raw(self, position: int, message: Any) -> Any:
        """One of the elements as the message has it."""
        return self._path.get(message)[int(self._indices[position])]


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

    def raw(self, position: int, message: Any) -> Any:
        """One of the elements of the message that was just read, as it has it."""
        return self._path.get(message)[int(self._positions[position])]
