"""Where things are in ROS messages, of rclpy's classes and of rosbags' alike.

`MessagePath` follows a dotted path, `JointOrder` finds joints by their names, and the functions at
the end read and write time stamps.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, did_you_mean
from dql_core.streams import SECOND_NS

# The fields that name the elements of a message's arrays: of JointState, of JointTrajectory.
NAME_LISTS = ("name", "joint_names")
NUMBERS = (float, int, np.number, np.bool_)


class MessagePath:
    """One dotted path such as ``pose.position.x``; a number selects an element of a list.

    Args:
        path: The path; ``points.0.positions`` is the array of a trajectory's first point.
        topic: The topic that the messages come from, for error messages.
    """

    def __init__(self, path: str, topic: str) -> None:
        self.path = path
        self._topic = topic
        self._parts = tuple(path.split("."))
        indexed = any(part.isdigit() for part in self._parts)
        self._read: Callable[[Any], Any] = self._walk if indexed else attrgetter(path)

    def get(self, message: Any) -> Any:
        """Return what lies at the path.

        Raises:
            ContractError: Naming the part that the message does not have, and what it has.
        """
        try:
            return self._read(message)
        except (AttributeError, IndexError, TypeError) as cause:
            raise self._missing(message) from cause

    def number(self, message: Any) -> float:
        """Return the number at the path; a bool counts as 0 or 1.

        Raises:
            ContractError: If there is something else.
        """
        found = self.get(message)
        if not isinstance(found, NUMBERS):
            raise ContractError(
                f"{self._topic}: '{self.path}' is {_kind(found)}, not one number; name a number, "
                f"or select elements of an array with 'joints' or 'indices'"
            )
        return float(found)

    def numbers(self, message: Any) -> NDArray[np.float64]:
        """Return the array of numbers at the path, shape (n,); it may share the message's memory.

        Raises:
            ContractError: If there is something else.
        """
        found = self.get(message)
        try:
            numbers = np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(())
        if numbers.ndim != 1:
            raise ContractError(
                f"{self._topic}: '{self.path}' is {_kind(found)}, not an array of numbers; "
                f"'joints' and 'indices' select from arrays only"
            )
        return numbers

    def assign(
        self,
        message: Any,
        value: float | str | NDArray[np.float64],
        new_element: Callable[[], Any] | None = None,
    ) -> None:
        """Replace what lies at the path, in the type that is there already.

        Args:
            message: The message to change.
            value: A number, a string, or an array of shape (n,).
            new_element: Makes the element of a list that is one too short for the path.

        Raises:
            ContractError: Naming the part that the message does not have, and what it has.
        """
        try:
            owner = self._owner(message, new_element)
            leaf = self._parts[-1]
            setattr(owner, leaf, _in_type_of(getattr(owner, leaf), value))
        except (AttributeError, IndexError) as cause:
            raise self._missing(message) from cause

    def replace(self, message: Any, value: Any) -> None:
        """Put ``value`` at the path as it is.

        Raises:
            ContractError: Naming the part that the message does not have, and what it has.
        """
        try:
            setattr(self._owner(message), self._parts[-1], value)
        except (AttributeError, IndexError) as cause:
            raise self._missing(message) from cause

    def _owner(self, message: Any, new_element: Callable[[], Any] | None = None) -> Any:
        owner = message
        for part in self._parts[:-1]:
            if part.isdigit() and new_element is not None and len(owner) == int(part):
                owner.append(new_element())
            owner = _step(owner, part)
        return owner

    def _walk(self, message: Any) -> Any:
        for part in self._parts:
            message = _step(message, part)
        return message

    def _missing(self, message: Any) -> ContractError:
        """Name the first part of the path that ``message`` does not have."""
        owner = message
        for part in self._parts:
            try:
                owner = _step(owner, part)
            except (IndexError, TypeError):
                what = f"'{self.path}' asks for element {part} of {_kind(owner)}"
                break
            except AttributeError:
                what = f"no field '{part}' for '{self.path}'"
                what += did_you_mean(part, field_names(owner))
                break
        return ContractError(f"{self._topic}: {what}; correct 'path' in the contract")


def field_names(message: Any) -> tuple[str, ...]:
    """Names of a message's fields; empty for what is no message."""
    if hasattr(message, "get_fields_and_field_types"):
        return tuple(message.get_fields_and_field_types())
    fields = getattr(message, "__dataclass_fields__", {})
    return tuple(name for name in fields if not name.startswith("__"))


def _step(owner: Any, part: str) -> Any:
    return owner[int(part)] if part.isdigit() else getattr(owner, part)


def _kind(found: Any) -> str:
    if hasattr(found, "__len__") and not isinstance(found, str):
        return f"an array of {len(found)}"
    return f"a {type(found).__name__}"


def _in_type_of(present: Any, value: float | str | NDArray[np.float64]) -> Any:
    """Convert to what the message class wants: rclpy and rosbags store arrays differently."""
    if isinstance(present, array.array):
        return array.array(present.typecode, np.asarray(value).tolist())
    if isinstance(present, np.ndarray):
        return np.asarray(value, dtype=present.dtype)
    if isinstance(present, list | tuple):
        return np.asarray(value).tolist()
    return type(present)(value)


def name_list_paths(path: str) -> Iterator[str]:
    """Yield where the names for the array at ``path`` may be: beside it, then above."""
    ancestors = path.split(".")[:-1]
    for depth in range(len(ancestors), -1, -1):
        for name in NAME_LISTS:
            yield ".".join([*ancestors[:depth], name])


def name_list_path(message: Any, path: str, topic: str) -> str:
    """Return the path of the names for the array at ``path``: beside it, or above.

    Raises:
        ContractError: If the message has none.
    """
    for candidate in name_list_paths(path):
        with suppress(ContractError):
            found = MessagePath(candidate, topic).get(message)
            if isinstance(found, Sequence) and not isinstance(found, str | bytes):
                return candidate
    raise ContractError(
        f"{topic}: the message names no joints (it has: {', '.join(field_names(message))}); "
        f"select with 'indices' in the contract"
    )


class JointOrder:
    """Finds the positions of joints in a message's arrays.

    Args:
        topic: The topic that the messages come from, for error messages.
        known: All joints that the contract selects from the topic.
        by_index: Whether an empty list of names stands for ``known``.
    """

    def __init__(self, topic: str, known: Sequence[str], by_index: bool) -> None:
        self._topic = topic
        self._known = tuple(known)
        self._by_index = by_index

    def positions(
        self, joints: Sequence[str], names: Sequence[str], path: str, length: int
    ) -> NDArray[np.intp]:
        """Return where ``joints`` are in the array at ``path``, shape (len(joints),).

        Args:
            joints: The joints to find.
            names: The message's names.
            path: Path of the array, for error messages.
            length: Length of the array.

        Raises:
            ContractError: If a joint is missing or named twice, or the array is of another length
                than the names.
        """
        present = self._known if self._by_index and not names else tuple(names)
        for joint in joints:
            if present.count(joint) != 1:
                times = "twice" if joint in present else "not"
                raise ContractError(
                    f"{self._topic}: joint '{joint}' is {times} in the message, which names: "
                    f"{', '.join(present) or 'none'}; {self._mend(present)}"
                )
        if length != len(present):
            whose = "joint names" if names else "joints of the contract, and the message no names"
            raise ContractError(
                f"{self._topic}: '{path}' has {length} entries for {len(present)} {whose}; "
                f"the publisher must fill it, or the contract do without"
            )
        return np.array([present.index(joint) for joint in joints], dtype=np.intp)

    def _mend(self, present: Sequence[str]) -> str:
        if present:
            return "correct 'joints' in the contract"
        return "set 'unnamed: by_index' in the contract if the order is known"


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


def set_time(time: Any, nanoseconds: int) -> None:
    """Write a time or duration in nanoseconds into a message's ``sec`` and ``nanosec``."""
    time.sec, time.nanosec = divmod(nanoseconds, SECOND_NS)
