"""Where things are in ROS messages, of rclpy's classes and of rosbags' alike.

`MessagePath` follows a path, `JointOrder` finds joints by their names, and `PlaceNames` refuses to
take from a list by its place what has a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, did_you_mean, one_line
from dql_ros.codecs.field_values import Value, in_type_of, kind_of, number_of, numbers_of
from dql_ros.contract import Stream
from dql_ros.contract.field import Named, Step, join_steps, split_path

# The fields that name the elements of a message's arrays: of JointState, of JointTrajectory.
NAME_LISTS = ("name", "joint_names")
# Stands for these in an `AbsentError`.
JOINTS = "joints"
# Makes an element of a list: of the message that has the list, and the list's name there.
NewElement = Callable[[Any, str], Any]
# How many names of a message an error lists.
MAX_LISTED = 20


class AbsentError(ContractError):
    """A message is of the right type, but the part that is selected is not in this one.

    A list or array is too short, or names others.

    Attributes:
        names: What the message calls its elements, where they are selected by name.
        list_: Which list or array that is; empty where nothing is selected by name.
    """

    def __init__(self, text: str, names: Sequence[str] = (), list_: str = "") -> None:
        super().__init__(text)
        self.names, self.list_ = tuple(names), list_


def with_remedy(cause: ContractError) -> str:
    """Say what is wrong with a message, and how to go on without it if it may be left out."""
    if isinstance(cause, AbsentError):
        return f"{cause}, or skip such messages by 'when_absent: skip'"
    return str(cause)


class MessagePath:
    """One path such as ``pose.position.x``; see `dql_ros.contract.field`.

    Args:
        path: The path; ``points.0.positions`` is the array of a trajectory's first point.
        topic: The topic that the messages come from, for error messages.
    """

    def __init__(self, path: str, topic: str) -> None:
        self.path = path
        self._topic = topic
        self._steps = split_path(path)
        is_plain = all(isinstance(step, str) for step in self._steps)
        self._read: Callable[[Any], Any] = attrgetter(path) if is_plain else self._walk

    @property
    def ends_in_field(self) -> bool:
        """Whether it leads to a field of a message, not to an element of a list."""
        return isinstance(self._steps[-1], str)

    def get(self, message: Any) -> Any:
        """Return what lies at the path.

        Raises:
            AbsentError: If a list is too short for it, or no element has the name.
            ContractError: Naming the part that the message's type does not have, and what it has.
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
        number = number_of(found)
        if number is None:
            remedy = "name a number, or select elements of an array with 'joints' or 'indices'"
            if all(hasattr(found, axis) for axis in "xyzw"):
                remedy = "a quaternion takes 'rotation: 6d'"
            raise ContractError(
                f"{self._topic}: '{self.path}' is {kind_of(found)}, not one number; {remedy}"
            )
        return number

    def numbers(self, message: Any) -> NDArray[np.float64]:
        """Return the array of numbers at the path, shape (n,); it may share the message's memory.

        Raises:
            ContractError: If there is something else.
        """
        found = self.get(message)
        numbers = numbers_of(found)
        if numbers is None:
            raise ContractError(
                f"{self._topic}: '{self.path}' is {kind_of(found)}, not an array of numbers; "
                f"'joints' and 'indices' select from arrays only"
            )
        return numbers

    def assign(self, message: Any, value: Value, new_element: NewElement | None = None) -> None:
        """Replace what lies at the path, in the type that is there already.

        Args:
            message: The message to change.
            value: A number, a text, or an array of shape (n,).
            new_element: Makes an element of a list that lacks the one that the path selects.

        Raises:
            ContractError: Naming the part that the message does not have, and what it has; or what
                the field does not take.
        """
        owner, field = self.owner(message, new_element), str(self._steps[-1])
        try:
            setattr(owner, field, in_type_of(owner, field, value))
        except AttributeError as cause:
            raise self._missing(message) from cause
        except TypeError as cause:
            raise ContractError(f"{self._topic}: '{self.path}' {one_line(cause)}") from cause
        except (ValueError, OverflowError, AssertionError) as cause:
            # rclpy's classes assert what their fields take.
            raise ContractError(
                f"{self._topic}: '{self.path}' cannot be sent: {one_line(cause)}; correct the "
                f"contract's fields"
            ) from cause

    def replace(self, message: Any, value: Any, new_element: NewElement | None = None) -> None:
        """Put ``value`` at the path as it is.

        Raises:
            ContractError: Naming the part that the message does not have, and what it has.
        """
        try:
            setattr(self.owner(message, new_element), str(self._steps[-1]), value)
        except AttributeError as cause:
            raise self._missing(message) from cause

    def owner(self, message: Any, new_element: NewElement | None = None) -> Any:
        """Return what has the last part of the path.

        Args:
            message: The message.
            new_element: Makes an element of a list that lacks the one that the path selects.

        Raises:
            ContractError: Naming the part that the message does not have, and what it has.
        """
        try:
            return self._owner(message, new_element)
        except (AttributeError, IndexError, TypeError) as cause:
            raise self._missing(message) from cause

    def _owner(self, message: Any, new_element: NewElement | None = None) -> Any:
        owners = [message]
        for before, step in zip(("", *self._steps), self._steps[:-1], strict=False):
            if new_element is not None and not isinstance(step, str):
                self._lengthen(owners, step, partial(new_element, owners[-2], str(before)))
            owners.append(self._step(owners, step))
        return owners[-1]

    def _lengthen(
        self, owners: Sequence[Any], step: int | Named, new_element: Callable[[], Any]
    ) -> None:
        """Add what the list, the last of the owners, lacks for a step."""
        elements = owners[-1]
        if isinstance(step, int):
            while len(elements) <= step:
                elements.append(new_element())
            return
        listed = _list_of_names(owners, step.key)
        if listed is not None:
            if step.value not in listed:
                listed.append(step.value)
            while len(elements) < len(listed):
                elements.append(new_element())
        elif step.value not in map(str, _names_of_elements(owners, step.key)):
            element, name = new_element(), MessagePath(step.key, self._topic)
            name.replace(element, type(name.get(element))(step.value))
            elements.append(element)

    def _walk(self, message: Any) -> Any:
        owners = [message]
        for step in self._steps:
            owners.append(self._step(owners, step))
        return owners[-1]

    def _step(self, owners: Sequence[Any], step: Step) -> Any:
        """Take one step from the last of the owners, each of which has the next."""
        if isinstance(step, str):
            return getattr(owners[-1], step)
        if isinstance(step, Named):
            names = _names_of_elements(owners, step.key)
            where = f"{self._topic}: '{self.path}'"
            step = position_of(step, names, len(owners[-1]), where)
        return owners[-1][step]

    def _missing(self, message: Any) -> ContractError:
        """Name the first part of the path that ``message`` does not have."""
        owners = [message]
        kind: type[ContractError] = ContractError
        for step in self._steps:
            try:
                owners.append(self._step(owners, step))
            except (IndexError, TypeError) as cause:
                kind = AbsentError if isinstance(cause, IndexError) else ContractError
                what = f"'{self.path}' asks for element {step} of {kind_of(owners[-1])}"
                break
            except AttributeError:
                part = step.key if isinstance(step, Named) else str(step)
                what = f"no field '{part}'" + ("" if part == self.path else f" for '{self.path}'")
                what += did_you_mean(part, field_names(owners[-1]))
                break
        return kind(f"{self._topic}: {what}; correct 'path' in the contract")


def _names_of_elements(owners: Sequence[Any], key: str) -> list[Any]:
    """What the elements of a list, the last of the owners, are called.

    Raises:
        AttributeError: If there is neither.
    """
    elements = owners[-1]
    if not len(elements):
        return []
    listed = _list_of_names(owners, key)
    if listed is None:
        return [attrgetter(key)(element) for element in elements]
    return list(listed)


def _list_of_names(owners: Sequence[Any], key: str) -> Any:
    """The list of texts called ``key`` that is beside a list, the last of the owners, or above."""
    for owner in reversed(owners[:-1]):
        names: Any = getattr(owner, key, None)
        if names is not None and is_list(names) and all(isinstance(name, str) for name in names):
            return names
    return None


def position_of(wanted: Named, names: Sequence[Any], length: int, where: str) -> int:
    """Return which element of a list has a name.

    Args:
        wanted: The name.
        names: What the elements are called: texts or whole numbers.
        length: How many elements there are.
        where: The topic and path, for error messages.

    Raises:
        AbsentError: If none has it, or there are fewer elements than names.
        ContractError: If several have it, or there are more elements than names.
    """
    texts = [str(name) for name in names]
    if texts and length > len(texts):
        raise ContractError(f"{where}: there are {length} elements and {len(texts)} names")
    if length and texts.count(wanted.value) > 1:
        raise ContractError(f"{where}: several elements are called '{wanted.value}'")
    if wanted.value not in texts or not length:
        listed = ", ".join(dict.fromkeys(texts[:MAX_LISTED] if length else ())) or "none"
        problem = f"no element is called '{wanted.value}' (the message has: {listed})"
    elif length < len(texts):
        problem = f"there are {length} elements and {len(texts)} names"
    else:
        return texts.index(wanted.value)
    raise AbsentError(f"{where}: {problem}", texts, wanted.key)


def field_names(message: Any) -> tuple[str, ...]:
    """Names of a message's fields; empty for what is no message."""
    if hasattr(message, "get_fields_and_field_types"):
        return tuple(message.get_fields_and_field_types())
    fields = getattr(message, "__dataclass_fields__", {})
    return tuple(name for name in fields if not name.startswith("__"))


def is_list(found: object) -> bool:
    """Whether what a message has somewhere is a list, not an array of numbers."""
    return isinstance(found, list | tuple)


def name_list_paths(path: str, lists: Sequence[str] = NAME_LISTS) -> Iterator[str]:
    """Yield where the names for the array at ``path`` may be: beside it, then above."""
    ancestors = split_path(path)[:-1]
    for depth in range(len(ancestors), -1, -1):
        for name in lists:
            yield join_steps((*ancestors[:depth], name))


def name_list_path(message: Any, path: str, topic: str, lists: Sequence[str] = NAME_LISTS) -> str:
    """Return the path of the names for the array at ``path``: beside it, or above.

    Raises:
        ContractError: If the message has none.
    """
    for candidate in name_list_paths(path, lists):
        with suppress(ContractError):
            if is_list(MessagePath(candidate, topic).get(message)):
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
            AbsentError: If a joint is missing, or the array is shorter than the names.
            ContractError: If a joint is named twice, or the array is longer than the names.
        """
        present = self._known if self._by_index and not names else tuple(names)
        for joint in joints:
            if present.count(joint) != 1:
                is_double = joint in present
                mend = "the publisher must name it once" if is_double else self._mend(present)
                problem = (
                    f"{self._topic}: joint '{joint}' is {'twice' if is_double else 'not'} in the "
                    f"message, which names: {', '.join(present) or 'none'}; {mend}"
                )
                raise (ContractError(problem) if is_double else _absent_joint(problem, present))
        if length != len(present):
            whose = "joint names" if names else "joints of the contract, and the message no names"
            problem = (
                f"{self._topic}: '{path}' has {length} entries for {len(present)} {whose}; "
                f"the publisher must fill it, or the contract do without"
            )
            is_short = length < len(present)
            raise _absent_joint(problem, present) if is_short else ContractError(problem)
        return np.array([present.index(joint) for joint in joints], dtype=np.intp)

    def _mend(self, present: Sequence[str]) -> str:
        if present:
            return "correct 'joints' in the contract"
        return "set 'unnamed: by_index' in the contract if the order is known"


def _absent_joint(problem: str, present: Sequence[str]) -> AbsentError:
    return AbsentError(problem, present, JOINTS)


def is_name(field: str) -> bool:
    """Whether a text field of this name says which element of a list it is in."""
    return field in {"name", "child_frame_id"} or field.endswith("_name")


class PlaceNames:
    """Refuses what is taken from a list by its place and has a name.

    Which broadcaster comes first on ``/tf``, or which joint in a state, may change from message to
    message, and from the recording to the robot.

    Args:
        stream: What is taken.
    """

    def __init__(self, stream: Stream) -> None:
        places: dict[str, set[int]] = {}
        for selection in stream.fields:
            for path, key in selection.read_elements:
                steps = split_path(path)
                for index, step in enumerate(steps):
                    if isinstance(step, int):
                        places.setdefault(join_steps(steps[:index]), set()).add(step)
                if isinstance(key, int):
                    places.setdefault(path, set()).add(key)
        self._lists = [
            _PlacedList(path, tuple(sorted(indices)), stream.topic)
            for path, indices in places.items()
        ]

    def check(self, message: Any) -> None:
        """Look whether what is taken by its place has a name in this message.

        Whether it has follows from the lengths of the message's lists and texts.

        Raises:
            ContractError: If it has, with the name to select it by.
        """
        for each in self._lists:
            each.check(message)


class _PlacedList:
    """A list, and the places that are taken from it."""

    def __init__(self, path: str, indices: tuple[int, ...], topic: str) -> None:
        self._path = path
        self._indices = indices
        self._topic = topic
        self._list = MessagePath(path, topic)
        self._is_known = False
        self._field = ""  # of the elements, if they have names
        self._names: MessagePath | None = None  # of a list of names beside it
        self._key = ""  # what the field or the list is called

    def check(self, message: Any) -> None:
        if self._is_known and not self._field and self._names is None:
            return
        try:
            elements = self._list.get(message)
        except ContractError:  # reported by those who need it
            return
        if not is_list(elements) and not hasattr(elements, "__len__"):
            return
        if not self._is_known and len(elements):
            self._find(message, elements)
        names = self._named(message, elements)
        for index in self._indices:
            if index < len(names) and names[index]:
                self._refuse(index, names[index], is_array=not field_names(elements[index]))

    def _refuse(self, index: int, name: str, *, is_array: bool) -> None:
        remedy = f"'{self._path}[{self._key}={name}]'"
        if is_array and self._key in NAME_LISTS:
            remedy = f"'joints: [{name}]'"
        raise ContractError(
            f"{self._topic}: element {index} of '{self._path}' is taken by its place, but has a "
            f"name, '{name}', and may stand elsewhere in other messages; select it by {remedy}"
        )

    def _find(self, message: Any, elements: Any) -> None:
        """Find where the names are."""
        self._is_known = True
        first = elements[0]
        values = {field: getattr(first, field) for field in field_names(first)}
        fields = (field for field in values if is_name(field))
        self._field = next((each for each in fields if isinstance(values[each], str)), "")
        self._key = self._field
        if self._field or _has_arrays_alone(list(values.values())):
            return
        owner, _, _ = self._path.rpartition(".")
        beside = field_names(MessagePath(owner, self._topic).get(message) if owner else message)
        others = [f"{owner}.{each}".lstrip(".") for each in beside if each.endswith("_names")]
        for path in [*(() if values else others), *name_list_paths(self._path)]:
            names = MessagePath(path, self._topic)
            with suppress(ContractError):
                if is_list(names.get(message)):
                    self._names, self._key = names, path.rpartition(".")[2]
                    return

    def _named(self, message: Any, elements: Any) -> list[str]:
        """What the elements are called; empty where the message does not say."""
        if self._field:
            return [str(getattr(element, self._field)) for element in elements]
        names = [] if self._names is None else list(self._names.get(message))
        return names if len(names) == len(elements) else []


def _has_arrays_alone(values: Sequence[Any]) -> bool:
    """Whether names above a list are of its elements' arrays, as of a trajectory's positions."""
    lists = [each for each in values if hasattr(each, "__len__") and not isinstance(each, str)]
    texts = [each for each in lists if len(each) and isinstance(each[0], str)]
    return bool(lists) and not texts
