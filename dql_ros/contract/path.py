"""Paths into messages: ``pose.position.x``, ``points.0.positions``, ``pose[name=box].position``.

A path is a chain of field names. A number selects an element of a list by its place. Behind a list
``[key=value]`` selects the element whose name is ``value``: by the list of names called ``key``
that lies beside the list, or above, if there is one, else by the field ``key`` of each element.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PART = re.compile(r"([^\s.\[\]=]+)(?:\[([^\s.\[\]=]+(?:\.[^\s.\[\]=]+)*)=([^\[\]]+)\])?(?:\.|\Z)")


class Named(NamedTuple):
    """The step from a list to the element of a name.

    Attributes:
        key: The list of names beside the list, or the field of its elements, dotted.
        value: What it is there, as text.
    """

    key: str
    value: str

    def __str__(self) -> str:
        """The step as it is written."""
        return f"[{self.key}={self.value}]"


Step = str | int | Named


def split_path(path: str) -> tuple[Step, ...]:
    """Return the steps of a path: field names, places in lists, and names of elements.

    Raises:
        ValueError: If it is no path.
    """
    if not selects_by_name(path):
        return tuple(int(part) if part.isdecimal() else part for part in path.split("."))
    steps: list[Step] = []
    position = 0
    while position < len(path):
        found = _PART.match(path, position)
        if found is None:
            raise ValueError(
                f"'path' is '{path}': write list[key=value] for the element of a name, as in "
                f"transforms[child_frame_id=tool0].transform.translation.x"
            )
        part, key, value = found.groups()
        steps.append(int(part) if part.isdecimal() else part)
        if key is not None:
            steps.append(Named(key, value))
        position = found.end()
    return tuple(steps)


def join_steps(steps: Iterable[Step]) -> str:
    """Return the path of some steps; `split_path` takes it apart again."""
    path = ""
    for step in steps:
        path += str(step) if isinstance(step, Named) or not path else f".{step}"
    return path


def selects_by_name(path: str) -> bool:
    """Whether a path selects an element by its name, or tries to."""
    return "[" in path or "]" in path
