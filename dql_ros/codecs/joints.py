"""What messages have beside their numbers: the names of joints, and times in nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.streams import SECOND_NS
from dql_ros.codecs.message_path import MessagePath, field_names

# The fields that name the elements of a message's arrays: of JointState, of JointTrajectory.
NAME_LISTS = ("name", "joint_names")


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
