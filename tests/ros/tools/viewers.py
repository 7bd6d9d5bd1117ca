"""How Foxglove and PlotJuggler find numbers in messages, by their own documentation and source."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

_STEP = re.compile(
    r"""\.(?P<name>\w+)
    | \[(?P<index>\d+)\]
    | (?P<all>\[:\])
    | \{(?P<key>\w+)=="(?P<value>[^"]*)"\}""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def at_message_path(message: Any, path: str) -> list[Any]:
    """Return all that a Foxglove message path, without its topic, selects.

    Raises:
        ValueError: If the path is none.
    """
    found, rest = [message], path
    while rest:
        step = _STEP.match(rest)
        if step is None:
            raise ValueError(f"no message path: {rest}")
        rest = rest[step.end() :]
        if step["name"]:
            found = [getattr(each, step["name"]) for each in found]
        elif step["index"]:
            found = [each[int(step["index"])] for each in found]
        elif step["all"]:
            found = [element for each in found for element in each]
        else:
            found = [each for each in found if getattr(each, step["key"]) == step["value"]]
    return found


def plotted(message: Any, prefix: str) -> Iterator[tuple[str, float]]:
    """Yield the series that PlotJuggler's ROS parser makes of a message, with their values."""
    kind = getattr(message, "__msgtype__", "")
    if kind == "sensor_msgs/msg/JointState":
        yield from _plotted_joints(message, prefix)
    elif kind == "diagnostic_msgs/msg/DiagnosticArray":
        yield from _plotted_diagnostics(message, prefix)
    elif isinstance(message, (list, np.ndarray)):
        for index, value in enumerate(message):
            yield from plotted(value, f"{prefix}[{index}]")
    elif kind:
        for name in message.__dataclass_fields__.keys() - {"__msgtype__"}:
            yield from plotted(getattr(message, name), f"{prefix}/{name}")
    elif not isinstance(message, str):
        yield prefix, float(message)


def _plotted_joints(message: Any, prefix: str) -> Iterator[tuple[str, float]]:
    for array in ("position", "velocity", "effort"):
        for joint, value in zip(message.name, getattr(message, array), strict=False):
            yield f"{prefix}/{joint}/{array}", value


def _plotted_diagnostics(message: Any, prefix: str) -> Iterator[tuple[str, float]]:
    for status in message.status:
        for pair in status.values:
            if _NUMBER.fullmatch(pair.value):
                name = f"{prefix}/{status.hardware_id}/{status.name}/{pair.key}"
                yield name, float(pair.value)
