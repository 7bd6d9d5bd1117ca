"""Dotted paths into ROS messages, of rclpy's classes and of rosbags' alike."""

from __future__ import annotations

import array
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, did_you_mean

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
