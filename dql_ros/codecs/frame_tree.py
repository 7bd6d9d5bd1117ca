"""The tree of frames that tf broadcasts, as far as it is known, and the chain between two frames.

A frame has one parent, for good. As long as that holds, there is at most one chain between two
frames, and what becomes known later adds to the tree without changing that chain: what a program
finds that knows a whole recording is what a node finds that has heard a part of it, or nothing
yet. Where it does not hold, there is nothing to be found, and the tree says why.
"""

from __future__ import annotations

from typing import NamedTuple

from dql_core.errors import ContractError, listed, nearest
from dql_ros.codecs.message_path import MAX_LISTED
from dql_ros.contract import TransformStream

# More frames than this are no robot's, and would only fill the memory.
MAX_FRAMES = 10_000


class Edge(NamedTuple):
    """A transform that is broadcast: where a frame is in its parent's axes.

    Attributes:
        parent: The parent frame.
        child: The frame.
        is_static: Whether it never moves.
    """

    parent: str
    child: str
    is_static: bool

    def __str__(self) -> str:
        """The two frames."""
        return f"'{self.child}' in '{self.parent}'"


class Step(NamedTuple):
    """One transform in the chain from one frame to another.

    Attributes:
        edge: Which.
        is_inverse: Whether the chain goes from the parent to the child.
    """

    edge: Edge
    is_inverse: bool


class FrameTree:
    """Takes in the transforms that were broadcast, and finds the chain between a stream's frames.

    Attributes:
        chain: The transforms from the stream's child to its parent, in this order; ``None`` as
            long as the two are not known to be connected.
        problem: Why there can be no chain, as a clause; empty if nothing speaks against one.

    Args:
        stream: Says which two frames.
    """

    def __init__(self, stream: TransformStream) -> None:
        self.chain: tuple[Step, ...] | None = None
        self.problem = ""
        self._frames, self._topic = stream.tf, stream.topic
        self._above: dict[str, Edge] = {}
        self._torn: dict[str, str] = {}  # what is wrong with frames that have two parents
        self._in_chain: frozenset[str] = frozenset()  # the frames with a parent in it

    def add(self, edge: Edge) -> bool:
        """Take in that a transform was broadcast; say whether its values may matter.

        They may if it is in the chain, or if the chain is not known yet.

        Raises:
            ContractError: If it is in the chain, and there is no one chain any more.
        """
        if self._above.get(edge.child) != edge:
            self._learn(edge)
        if self.problem and self.is_in_chain(edge):
            raise ContractError(f"{self._topic}: {self.problem}")
        return self.chain is None or self.is_in_chain(edge)

    def is_in_chain(self, edge: Edge) -> bool:
        """Whether a transform is known to be in the chain, or is of a frame that has one there."""
        return edge.child in self._in_chain

    def explanation(self) -> str:
        """Why there is no chain, as a sentence without a full stop; empty if there is one."""
        if self.problem:
            return f"{self._topic}: {self.problem}"
        if self.chain is not None:
            return ""
        known = sorted({frame for edge in self._above.values() for frame in edge[:2]})
        if loop := self._loop():
            return f"{self._topic}: {loop}"
        unknown = [frame for frame in self._frames_of_stream if frame not in known]
        if unknown:
            named = " and no ".join(f"frame '{each}'{nearest(each, known)}" for each in unknown)
            there = f"there are {listed(known, MAX_LISTED)}" if known else "nothing is broadcast"
            return (
                f"{self._topic}: no {named} is broadcast so far; {there}; correct 'tf' in the "
                f"contract, or start what broadcasts it"
            )
        child, parent = (self._ancestors(frame)[-1] for frame in self._frames_of_stream)
        return (
            f"{self._topic}: nothing connects '{self._frames.child}', below '{child}', with "
            f"'{self._frames.parent}', below '{parent}'; correct 'tf' in the contract, or start "
            f"what broadcasts the transform between"
        )

    @property
    def _frames_of_stream(self) -> tuple[str, str]:
        return self._frames.child, self._frames.parent

    def _learn(self, edge: Edge) -> None:
        known = self._above.get(edge.child)
        if known is None:
            if len(self._above) >= MAX_FRAMES:
                raise ContractError(f"{self._topic}: more than {MAX_FRAMES} frames are broadcast")
            self._above[edge.child] = edge
            if self.chain is None:
                self._look()
            return
        self._torn.setdefault(edge.child, _torn(known, edge))
        self._judge()

    def _look(self) -> None:
        """Find the chain, if it is known by now."""
        up, down = (self._ancestors(frame) for frame in self._frames_of_stream)
        shared = next((frame for frame in up if frame in set(down)), None)
        if shared is None:
            return
        rising = [Step(self._above[frame], False) for frame in up[: up.index(shared)]]
        falling = [Step(self._above[frame], True) for frame in down[: down.index(shared)]]
        self.chain = (*rising, *reversed(falling))
        self._in_chain = frozenset(step.edge.child for step in self.chain)
        self._judge()

    def _judge(self) -> None:
        """Note if a frame in the chain has two parents."""
        torn = (self._torn.get(frame, "") for frame in self._in_chain)
        self.problem = self.problem or min(filter(None, torn), default="")

    def _ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, that one's parent, and so on; once round, if that is a loop."""
        found = [frame]
        while frame in self._above:
            frame = self._above[frame].parent
            if frame in found:
                break
            found.append(frame)
        return found

    def _loop(self) -> str:
        """What is wrong if the frames above one of the two go round in a loop; else empty."""
        for frame in self._frames_of_stream:
            known = self._ancestors(frame)
            last = self._above.get(known[-1])
            if last is not None:
                loop = [*known[known.index(last.parent) :], last.parent]
                return (
                    f"the frames go round in a loop, {' in '.join(map(repr, loop))}; one of them "
                    f"has no parent: stop the node that broadcasts it"
                )
        return ""


def _torn(known: Edge, edge: Edge) -> str:
    """What is wrong with two transforms of one frame."""
    if known.parent != edge.parent:
        return (
            f"the frame '{edge.child}' is in '{edge.parent}' here and was in '{known.parent}' "
            f"before: it was moved to another place in the tree, or two nodes broadcast it; let "
            f"one do so, or observe a frame that keeps its parent"
        )
    return (
        f"{edge} is broadcast as static and as moving, so that two nodes do so; stop one of them"
    )
