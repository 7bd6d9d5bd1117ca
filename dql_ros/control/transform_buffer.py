"""What is known of a pose at a tick, live: each transform in the chain is held by itself.

The counterpart of `dql_ros/convert/transforms.py`, which answers the same for a recording: by the
same tree of frames, the same watch over who broadcasts, and the same composition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.streams import HoldBuffer
from dql_ros.codecs.broadcasters import BroadcasterWatch
from dql_ros.codecs.frame_tree import Edge, FrameTree
from dql_ros.codecs.transforms import Broadcast, PoseReader
from dql_ros.contract import TransformStream


class TransformBuffer:
    """The recent transforms between a stream's frames; read as a `HoldBuffer`.

    A frame that got another parent, or is broadcast by several nodes that disagree, has no pose
    any more: nobody knows which is right.

    Args:
        stream: The contract's description.
    """

    def __init__(self, stream: TransformStream) -> None:
        self._tree, self._read, self._topic = FrameTree(stream), PoseReader(stream), stream.topic
        self._moving: dict[Edge, HoldBuffer] = {}
        self._static: dict[Edge, NDArray[np.float64]] = {}
        self._watches: dict[Edge, BroadcasterWatch] = {}
        self._failures: dict[Edge, str] = {}

    @property
    def problem(self) -> str:
        """Why there is no pose whatever comes, or none so far, as a clause; empty if there is."""
        failures = (self._failures.get(edge, "") for edge in self._in_chain)
        text = self._tree.explanation() or next(filter(None, failures), "")
        return text.removeprefix(f"{self._topic}: ")

    def is_in_chain(self, edge: Edge) -> bool:
        """Whether a transform is known to be in the chain, or is of a frame that has one there."""
        return self._tree.is_in_chain(edge)

    def may_matter(self, edge: Edge) -> bool:
        """Take in that a transform was broadcast; see `FrameTree.add`.

        Raises:
            ContractError: If there is no one chain any more.
        """
        return self._tree.add(edge)

    def push(self, broadcast: Broadcast, time_ns: int, received_ns: int | None) -> None:
        """Add a transform that may matter.

        Args:
            broadcast: The transform.
            time_ns: What it is of.
            received_ns: When it was received, on a steady clock.

        Raises:
            ContractError: If it is in the chain, and several nodes broadcast it that disagree.
        """
        edge, numbers = broadcast.edge, broadcast.numbers
        if edge not in self._failures:
            watch = self._watches.setdefault(edge, BroadcasterWatch(edge))
            if problem := watch.note(time_ns, numbers):
                self._failures[edge] = problem
        if edge in self._failures:
            if edge in self._in_chain:
                raise ContractError(f"{self._topic}: {self._failures[edge]}")
            return
        if edge.is_static:
            self._static[edge] = np.array(numbers)
        else:
            held = self._moving.setdefault(edge, HoldBuffer())
            held.push(time_ns, np.array(numbers), received_ns)
        if self._tree.chain is not None and len(self._watches) > len(self._tree.chain):
            self._forget_the_others()

    def at(
        self, now_ns: int, max_age_ns: int | None = None, steady_ns: int | None = None
    ) -> NDArray[np.float64] | None:
        """Return the stream's part of the vector, shape (width,), as `HoldBuffer.at` would."""
        chain = self._tree.chain
        if chain is None or self.problem:
            return None
        transforms = []
        for step in chain:
            held = self._moving.get(step.edge)
            value = self._static.get(step.edge)
            if held is not None:
                value = held.at(now_ns, max_age_ns, steady_ns)
            if value is None:
                return None
            transforms.append(value[None])
        vector: NDArray[np.float64] = self._read(chain, transforms)[0]
        return vector

    def age_ns(self, now_ns: int, steady_ns: int | None = None) -> int | None:
        """Age of the oldest transform in the chain that moves; ``None`` if one is missing."""
        if self._tree.chain is None or self.problem:
            return None
        oldest_ns = 0
        for edge in self._in_chain:
            if edge.is_static:
                if edge not in self._static:
                    return None
                continue
            held = self._moving.get(edge)
            age_ns = None if held is None else held.age_ns(now_ns, steady_ns)
            if age_ns is None:
                return None
            oldest_ns = max(oldest_ns, age_ns)
        return oldest_ns

    def forget_before(self, now_ns: int) -> None:
        """Drop the values that no query at or after ``now_ns`` can return."""
        for held in self._moving.values():
            held.forget_before(now_ns)

    def clear(self) -> None:
        """Drop all values that have times; what is static stays known."""
        self._watches = {e: watch for e, watch in self._watches.items() if e.is_static}
        for held in self._moving.values():
            held.clear()

    @property
    def _in_chain(self) -> list[Edge]:
        return [] if self._tree.chain is None else [step.edge for step in self._tree.chain]

    def _forget_the_others(self) -> None:
        """Drop what was kept as long as it might have been in the chain."""
        known: tuple[dict[Edge, Any], ...]
        known = self._moving, self._static, self._watches, self._failures
        for each in known:
            for edge in each.keys() - set(self._in_chain):
                del each[edge]
