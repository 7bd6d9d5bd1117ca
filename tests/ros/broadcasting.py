"""Transforms as robots broadcast them, and what pose they make up by plain matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

TF = "tf2_msgs/msg/TFMessage"
TWIST = "geometry_msgs/msg/Twist"
START_NS = 1_700_000_000_000_000_000
Blank = Callable[[str], Any]
Message = tuple[str, str, int, Any]


@dataclass(frozen=True)
class Sent:
    """A transform that was broadcast.

    Attributes:
        parent: The parent frame.
        child: The frame.
        stamp_ns: Its header's stamp.
        numbers: Translation x, y, z; rotation x, y, z, w.
        arrived_ns: When it was received.
        is_static: On which topic.
    """

    parent: str
    child: str
    stamp_ns: int
    numbers: Sequence[float]
    arrived_ns: int = 0
    is_static: bool = False


def message(blank: Blank, transforms: Iterable[Sent]) -> Any:
    """A TFMessage."""
    whole = blank(TF)
    for sent in transforms:
        each = blank("geometry_msgs/msg/TransformStamped")
        each.header.stamp.sec, each.header.stamp.nanosec = divmod(sent.stamp_ns, 10**9)
        each.header.frame_id, each.child_frame_id = sent.parent, sent.child
        translation, rotation = each.transform.translation, each.transform.rotation
        translation.x, translation.y, translation.z = sent.numbers[:3]
        rotation.x, rotation.y, rotation.z, rotation.w = sent.numbers[3:]
        whole.transforms.append(each)
    return whole


def messages(blank: Blank, sent: Iterable[Sent]) -> list[Message]:
    """What was sent, as messages for a bag: those that arrived together in one."""
    together: dict[tuple[int, bool], list[Sent]] = {}
    for each in sent:
        together.setdefault((each.arrived_ns, each.is_static), []).append(each)
    return [
        ("/tf_static" if is_static else "/tf", TF, arrived_ns, message(blank, group))
        for (arrived_ns, is_static), group in together.items()
    ]


def commands(blank: Blank, times_ns: Iterable[int]) -> list[Message]:
    """Commands at some times."""
    return [("/cmd_vel", TWIST, int(time_ns), blank(TWIST)) for time_ns in times_ns]


def pose(rng: np.random.Generator) -> list[float]:
    """A random pose; its quaternion is of unit length but for rounding."""
    return [*rng.normal(size=3).tolist(), *Rotation.random(random_state=rng).as_quat().tolist()]


def matrix(numbers: Sequence[float]) -> NDArray[np.float64]:
    """The 4 x 4 matrix of a transform."""
    found = np.eye(4)
    found[:3, :3] = Rotation.from_quat(numbers[3:]).as_matrix()
    found[:3, 3] = numbers[:3]
    return found


def known_at(sent: Iterable[Sent], tick_ns: int) -> dict[str, Sent]:
    """Of each frame the newest transform that is known at a tick."""
    known: dict[str, Sent] = {}
    for each in sent:
        if each.arrived_ns > tick_ns or not (each.is_static or each.stamp_ns <= tick_ns):
            continue
        before = known.get(each.child)
        if before is None or each.is_static or each.stamp_ns >= before.stamp_ns:
            known[each.child] = each
    return known


def in_world(known: dict[str, Sent], frame: str) -> NDArray[np.float64]:
    """Where a frame is in the root of its tree."""
    found = np.eye(4)
    while frame in known:
        found = matrix(known[frame].numbers) @ found
        frame = known[frame].parent
    return found


def pose_of(known: dict[str, Sent], child: str, parent: str) -> NDArray[np.float64]:
    """The 4 x 4 matrix of a frame in another one."""
    found: NDArray[np.float64] = np.linalg.inv(in_world(known, parent)) @ in_world(known, child)
    return found


def contract(*streams: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A contract that observes transforms and commands a twist."""
    return {
        "robot": "manipulator",
        "rate_hz": 20.0,
        "observation": list(streams),
        "action": [
            {
                "topic": "cmd_vel",
                "type": TWIST,
                "fields": [{"path": "linear.x", "low": -1, "high": 1}],
            }
        ],
        **keys,
    }


def observed(parent: str, child: str, **keys: Any) -> dict[str, Any]:
    """An observation stream of a whole pose."""
    fields = [{"path": f"translation.{axis}", "unit": "m"} for axis in "xyz"]
    return {
        "tf": {"parent": parent, "child": child},
        "fields": [*fields, {"rotation": "6d"}],
        **keys,
    }
