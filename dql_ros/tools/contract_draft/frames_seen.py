"""Which pose out of tf's tree is likely to be of use: the tool's in its base, or the robot's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.codecs.frame_tree import MAX_FRAMES, Edge, FrameTree
from dql_ros.codecs.stamps import are_times
from dql_ros.codecs.transforms import TransformBlockDecoder, by_edge
from dql_ros.contract import TransformStream
from dql_ros.contract.transforms import TRANSFORM_TYPE
from dql_ros.convert.report.topic_statistics import Pauses

TOPIC = "/tf"
STATIC = "/tf_static"
# What tools are called, the likeliest first; and what they are moved from.
TOOLS = (
    re.compile(r"tool\d*|tcp"),
    re.compile(r"ee|eef|effector"),
    re.compile(r"gripper|hand"),
    re.compile(r"flange"),
)
BASE = re.compile(r"base")
MOBILE_BASES = ("base_link", "base_footprint", "base")
ODOMETRY = "odom"


@dataclass
class _Seen:
    """What was seen of a transform."""

    numbers: NDArray[np.float64]
    has_moved: bool = False
    pauses: Pauses = field(default_factory=Pauses)
    least_delay_ns: int = 1 << 62
    most_delay_ns: int = -(1 << 62)


@dataclass(frozen=True)
class SeenPose:
    """A pose that moved in the recordings.

    Attributes:
        stream: Its two frames, and all of its numbers.
        chain: How many transforms it is made of.
        moving: How many of them moved.
        usual_s: The usual pause between two values of the slowest of these.
        late_s: A pause that hardly any was longer than.
        least_delay_s: The least time from a header's stamp to its receipt.
        most_delay_s: The most.
    """

    stream: TransformStream
    chain: int
    moving: int
    usual_s: float
    late_s: float
    least_delay_s: float
    most_delay_s: float


class FramesSeen:
    """Takes in what recordings broadcast of frames."""

    def __init__(self) -> None:
        self._seen: dict[Edge, _Seen] = {}
        self._decoders: dict[str, TransformBlockDecoder] = {}

    def begin_recording(self) -> None:
        """What comes next is of another recording."""
        self._decoders.clear()
        for seen in self._seen.values():
            seen.pauses.begin_recording()

    def add(self, block: MessageBlock, typestore: Typestore) -> None:
        """Take in a block of messages, if they are of transforms."""
        if block.msgtype != TRANSFORM_TYPE or block.topic not in {TOPIC, STATIC}:
            return
        decoder = self._decoders.setdefault(
            block.topic,
            TransformBlockDecoder(block.topic, block.msgtype, block.topic == STATIC, typestore),
        )
        try:
            found = decoder.decode(block)
        except MessageError:
            return  # said when the draft is tried
        arrived_ns = block.log_times_ns[found.messages]
        for edge, rows in by_edge(found.edges):
            is_one = edge.parent and edge.child and edge.parent != edge.child
            if is_one and (len(self._seen) < MAX_FRAMES or edge in self._seen):
                self._note(edge, arrived_ns[rows], found.stamps_ns[rows], found.numbers[rows])

    def _note(
        self,
        edge: Edge,
        arrived_ns: NDArray[np.int64],
        stamps_ns: NDArray[np.int64],
        numbers: NDArray[np.float64],
    ) -> None:
        seen = self._seen.setdefault(edge, _Seen(numbers[0]))
        seen.has_moved |= bool((numbers != seen.numbers).any())
        seen.pauses.add(arrived_ns)
        delays_ns = np.where(are_times(stamps_ns), arrived_ns - stamps_ns, 1 << 62)
        seen.least_delay_ns = min(seen.least_delay_ns, int(delays_ns.min()))
        seen.most_delay_ns = max(seen.most_delay_ns, int(delays_ns.max()))

    def pose(self) -> SeenPose | None:
        """The pose that is likeliest to be of use; ``None`` if there is none."""
        for parent, child in self._candidates():
            stream = _stream(parent, child)
            tree = FrameTree(stream)
            try:
                for edge in self._seen:
                    tree.add(edge)
            except ContractError:
                continue
            chain = tree.chain or ()
            moving = [seen for step in chain if (seen := self._seen[step.edge]).has_moved]
            if moving and not tree.explanation():
                pauses = [each.pauses.to_json()["median_pause_ms"] or 0.0 for each in moving]
                return SeenPose(
                    stream,
                    len(chain),
                    len(moving),
                    usual_s=max(pauses) / 1000,
                    late_s=max(each.pauses.usual_s(0.99) or 0.0 for each in moving),
                    least_delay_s=min(each.least_delay_ns for each in moving) / 1e9,
                    most_delay_s=max(each.most_delay_ns for each in moving) / 1e9,
                )
        return None

    def _candidates(self) -> Iterator[tuple[str, str]]:
        """Yield pairs of frames, the likeliest first."""
        above = {edge.child: edge.parent for edge in self._seen}
        for words in TOOLS:
            named = [frame for frame in above if any(map(words.fullmatch, _words(frame)))]
            for child in sorted(named, key=lambda frame: (-len(_ancestors(frame, above)), frame)):
                ancestors = _ancestors(child, above)
                bases = [frame for frame in ancestors[1:] if any(map(BASE.match, _words(frame)))]
                yield from ((base, child) for base in bases)
                yield ancestors[-1], child
        for child in MOBILE_BASES:
            ancestors = _ancestors(child, above)
            if len(ancestors) > 1:
                yield (ODOMETRY if ODOMETRY in ancestors else ancestors[-1]), child


def _stream(parent: str, child: str) -> TransformStream:
    fields = [{"path": f"translation.{axis}", "unit": "m"} for axis in "xyz"]
    return TransformStream.model_validate(
        {"tf": {"parent": parent, "child": child}, "fields": [*fields, {"rotation": "6d"}]}
    )


def _words(frame: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", frame.lower())


def _ancestors(frame: str, above: dict[str, str]) -> list[str]:
    """The frame, its parent, and so on; once round, if that is a loop."""
    found = [frame]
    while frame in above and above[frame] not in found:
        frame = above[frame]
        found.append(frame)
    return found
