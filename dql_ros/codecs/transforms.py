"""Transforms out of tf's messages, and the pose that they make up in the chain between two frames.

Quaternions are in ROS's order x, y, z, w, and count by their direction: they need not have unit
length, and one of zeros, which is no rotation, makes the pose NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import DAMAGE, FEW_MESSAGES, MAX_PLANS, MessageError, damaged
from dql_ros.codecs.cdr_layout import CdrLayout, LayoutError, RowPlan, lay_out
from dql_ros.codecs.frame_tree import Edge, Step
from dql_ros.codecs.message_path import JointOrder
from dql_ros.codecs.stamps import stamp_of, stamps_of
from dql_ros.codecs.transform import StreamTransform
from dql_ros.contract import FieldSelection, TransformStream
from dql_ros.contract.transforms import TRANSFORM_PATHS, frame_name

Rows = NDArray[np.float64]
# Numbers of a transform: translation x, y, z, then rotation x, y, z, w.
WIDTH = len(TRANSFORM_PATHS)
_STAMP = ("header.stamp.sec", "header.stamp.nanosec")
_NUMBERS = (*_STAMP, *(f"transform.{path}" for path in TRANSFORM_PATHS))


class Broadcast(NamedTuple):
    """A transform as it was broadcast.

    Attributes:
        edge: Of which frame, in which.
        stamp_ns: Its header's stamp, as `stamp_of` returns it.
        numbers: Three of the translation, four of the rotation.
    """

    edge: Edge
    stamp_ns: int
    numbers: tuple[float, ...]


def broadcasts(message: Any, topic: str, is_static: bool) -> list[Broadcast]:
    """Return the transforms of a message.

    Raises:
        ContractError: If it is no message of tf's.
    """
    try:
        return [
            Broadcast(
                _edge(each.header.frame_id, each.child_frame_id, is_static),
                stamp_of(each.header.stamp),
                _numbers(each.transform.translation, each.transform.rotation),
            )
            for each in message.transforms
        ]
    except AttributeError as cause:
        raise ContractError(
            f"{topic}: a message has no transforms ({cause}); correct 'type' in the contract"
        ) from cause


def _numbers(translation: Any, rotation: Any) -> tuple[float, ...]:
    return (
        *(float(number) for number in (translation.x, translation.y, translation.z)),
        *(float(number) for number in (rotation.x, rotation.y, rotation.z, rotation.w)),
    )


def _edge(parent: str, child: str, is_static: bool) -> Edge:
    return Edge(frame_name(parent), frame_name(child), is_static)


class PoseReader:
    """Makes a stream's part of the vector of the transforms in the chain.

    Each row's result is the same to the bit whatever rows it is computed with, so that a node,
    which asks for one, and a conversion, which asks for thousands, get the same.

    Args:
        stream: Says which numbers of the pose.
    """

    def __init__(self, stream: TransformStream) -> None:
        self._transform = StreamTransform(stream.fields)
        self._columns = [
            TRANSFORM_PATHS.index(element.path)
            for selection in stream.fields
            for element in selection.read_elements
        ]

    def __call__(self, chain: Sequence[Step], transforms: Sequence[Rows]) -> Rows:
        """Return the vectors, shape (m, width).

        Args:
            chain: The steps from the stream's child to its parent.
            transforms: What is known of each step's transform, shape (m, 7).
        """
        return self._transform.decode(composed(chain, transforms)[:, self._columns])


def composed(chain: Sequence[Step], transforms: Sequence[Rows]) -> Rows:
    """Return the pose of the chain's first frame in its last, shape (m, 7).

    Only elementwise operations that IEEE 754 rounds correctly are used.

    Args:
        chain: The steps, at least one.
        transforms: Of each step's frame in that one's parent, shape (m, 7).
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        pose: _Pose | None = None
        for step, numbers in zip(chain, transforms, strict=True):
            taken = _taken(numbers, step.is_inverse)
            pose = taken if pose is None else _product(taken, pose)
    assert pose is not None
    return np.stack([*pose.translation, *pose.rotation], axis=1)


_Parts = tuple[NDArray[np.float64], ...]


class _Pose(NamedTuple):
    translation: _Parts  # x, y, z
    rotation: _Parts  # x, y, z, w, of unit length


def _taken(numbers: Rows, is_inverse: bool) -> _Pose:
    """A step's transform, from its frame to the parent or back."""
    tx, ty, tz, x, y, z, w = (np.ascontiguousarray(part) for part in numbers.T)
    length = np.sqrt(x * x + y * y + z * z + w * w)
    rotation = (x / length, y / length, z / length, w / length)
    if not is_inverse:
        return _Pose((tx, ty, tz), rotation)
    back = (-rotation[0], -rotation[1], -rotation[2], rotation[3])
    rx, ry, rz = _rotated(back, (tx, ty, tz))
    return _Pose((-rx, -ry, -rz), back)


def _product(second: _Pose, first: _Pose) -> _Pose:
    """What two transforms do, the first, then the second."""
    x, y, z = _rotated(second.rotation, first.translation)
    tx, ty, tz = second.translation
    ax, ay, az, aw = second.rotation
    bx, by, bz, bw = first.rotation
    return _Pose(
        (x + tx, y + ty, z + tz),
        (
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ),
    )


def _rotated(rotation: _Parts, vector: _Parts) -> _Parts:
    """A vector v turned by a unit quaternion (u, w): v + 2 w (u x v) + 2 u x (u x v)."""
    x, y, z, w = rotation
    vx, vy, vz = vector
    cx, cy, cz = y * vz - z * vy, z * vx - x * vz, x * vy - y * vx
    return (
        vx + 2.0 * (w * cx + (y * cz - z * cy)),
        vy + 2.0 * (w * cy + (z * cx - x * cz)),
        vz + 2.0 * (w * cz + (x * cy - y * cx)),
    )


@dataclass(frozen=True)
class Transforms:
    """The n transforms of a block's messages, in the order of their messages.

    Attributes:
        messages: Which message of the block each is of, shape (n,).
        edges: Of which frame each is, in which; `Edge` objects, shape (n,).
        stamps_ns: Their headers' stamps, as `stamps_of` returns them; shape (n,).
        numbers: Shape (n, 7).
    """

    messages: NDArray[np.intp]
    edges: NDArray[np.object_]
    stamps_ns: NDArray[np.int64]
    numbers: Rows


def by_edge(edges: NDArray[np.object_]) -> Iterator[tuple[Edge, NDArray[np.intp]]]:
    """Yield each different edge, in the order of the first, with its rows."""
    numbers: dict[Edge, int] = {}
    kinds = np.array([numbers.setdefault(edge, len(numbers)) for edge in edges], np.intp)
    for edge, number in numbers.items():
        yield edge, np.flatnonzero(kinds == number)


class TransformBlockDecoder:
    """Decodes the blocks of one topic of tf's: all messages of one layout at once.

    As in `BlockDecoder`, the first message of each layout is decoded in the ordinary way as well
    and must give the same; what cannot be laid out is decoded one by one.

    Args:
        topic: Absolute topic name.
        msgtype: Its type.
        is_static: Whether the transforms never move.
        typestore: Knows the type.
    """

    def __init__(self, topic: str, msgtype: str, is_static: bool, typestore: Typestore) -> None:
        self._topic, self._msgtype, self._is_static = topic, msgtype, is_static
        self._typestore = typestore
        self._plans: list[_Plan] = []

    def decode(self, block: MessageBlock) -> Transforms:
        """Decode all messages of a block.

        Raises:
            MessageError: At the first message that is none of tf's.
        """
        waiting, parts, singly = np.arange(len(block)), [_NOTHING], 0
        while len(waiting):
            first = int(waiting[0])
            plan = self._known_plan(block, first)
            if plan is None and singly < FEW_MESSAGES:
                plan = self._new_plan(block, first)
            if plan is None:
                parts.append(self._one(block, first))
                waiting, singly = waiting[1:], singly + 1
                continue
            rows = waiting[block.lengths[waiting] == plan.length]
            fits, part = plan.decode(block, rows)
            parts.append(part)
            singly += len(fits) == 1
            waiting = np.setdiff1d(waiting, fits, assume_unique=True)
        return _ordered(parts)

    def _known_plan(self, block: MessageBlock, index: int) -> _Plan | None:
        row, length = np.array([index]), int(block.lengths[index])
        fitting = (plan for plan in reversed(self._plans) if plan.length == length)
        return next((plan for plan in fitting if len(plan.decode(block, row)[0])), None)

    def _new_plan(self, block: MessageBlock, index: int) -> _Plan | None:
        """Lay out a message; ``None`` where that is not possible or not right."""
        ordinary = self._one(block, index)
        try:
            layout = lay_out(block.payload(index), self._msgtype, self._typestore)
            plan = _Plan(layout, self._topic, self._is_static)
        except LayoutError:
            return None
        _, laid_out = plan.decode(block, np.array([index]))
        if not _are_same(ordinary, laid_out):
            return None
        self._plans = [*self._plans, plan][-MAX_PLANS:]
        return plan

    def _one(self, block: MessageBlock, index: int) -> Transforms:
        """Decode one message in the ordinary way."""
        try:
            message = self._typestore.deserialize_cdr(block.payload(index), self._msgtype)
            found = broadcasts(message, self._topic, self._is_static)
        except DAMAGE as cause:
            raise damaged(self._topic, self._msgtype, cause, index) from cause
        except ContractError as cause:
            raise MessageError(str(cause), index) from cause
        return Transforms(
            np.full(len(found), index),
            _objects([each.edge for each in found]),
            np.array([each.stamp_ns for each in found], np.int64),
            np.array([each.numbers for each in found]).reshape(-1, WIDTH),
        )


class _Plan:
    """Takes the transforms out of all messages of one layout: of the same frames."""

    def __init__(self, layout: CdrLayout, topic: str, is_static: bool) -> None:
        count = layout.lengths.get("transforms", 0)
        places = [f"transforms.{index}" for index in range(count)]
        edges = []
        for place in places:
            (parent, above), (child, own) = (
                layout.strings[f"{place}.{key}"] for key in ("header.frame_id", "child_frame_id")
            )
            layout.fix(above)
            layout.fix(own)
            edges.append(_edge(parent, child, is_static))
        self._edges = _objects(edges)
        fields = [FieldSelection(path=f"{place}.{key}") for place in places for key in _NUMBERS]
        self._plan = RowPlan(layout, fields, JointOrder(topic, (), False), stamped=False)
        self.length = self._plan.length

    def decode(
        self, block: MessageBlock, rows: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], Transforms]:
        """Return which of some messages of its length have the layout, and what is in them."""
        fits, gathered = self._plan.take(block.data, block.starts[rows])
        if fits is not None:
            rows, gathered = rows[fits], [matrix[fits] for matrix in gathered]
        numbers = self._plan.numbers(gathered).reshape(-1, len(_NUMBERS))
        seconds, nanoseconds = (numbers[:, column].astype(np.int64) for column in (0, 1))
        return rows, Transforms(
            np.repeat(rows, len(self._edges)),
            np.tile(self._edges, len(rows)),
            stamps_of(seconds, nanoseconds),
            numbers[:, len(_STAMP) :],
        )


def _objects(edges: Sequence[Edge]) -> NDArray[np.object_]:
    """An array of edges; numpy itself would make a row of each."""
    array = np.empty(len(edges), object)
    for index, edge in enumerate(edges):
        array[index] = edge
    return array


_NOTHING = Transforms(
    np.empty(0, np.intp), _objects([]), np.empty(0, np.int64), np.empty((0, WIDTH))
)


def _ordered(parts: Sequence[Transforms]) -> Transforms:
    """Put parts of a block together in the order of its messages."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    whole = Transforms(*(np.concatenate(column) for column in columns))
    order = np.argsort(whole.messages, kind="stable")
    return Transforms(*(column[order] for column in vars(whole).values()))


def _are_same(one: Transforms, other: Transforms) -> bool:
    return (
        one.edges.tolist() == other.edges.tolist()
        and one.stamps_ns.tobytes() == other.stamps_ns.tobytes()
        and one.numbers.tobytes() == other.numbers.tobytes()
    )
