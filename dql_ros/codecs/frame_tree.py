"""The tree of frames that tf broadcasts, as far as it is known, and the way between two frames.

A frame has one parent, for good. As long as that holds, there is at most one way between two
frames, and what becomes known later adds to the tree without changing that way: what a program
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
    """One transform on the way from one frame to another.

    Attributes:
        edge: Which.
        is_inverse: Whether the way goes from the parent to the child.
    """

    edge: Edge
    is_inverse: bool


class FrameTree:
    """Takes in the transforms that were broadcast, and finds the way between a stream's frames.

    Attributes:
        way: The transforms from the stream's child to its parent, in this order; ``None`` as long
            as the two are not known to be connected.
        problem: Why there can be no way, as a clause; empty if nothing speaks against one.

    Args:
        stream: Says which two frames.
    """

    def __init__(self, stream: TransformStream) -> None:
        self.way: tuple[Step, ...] | None = None
        self.problem = ""
        self._frames, self._topic = stream.tf, stream.topic
        self._above: dict[str, Edge] = {}
        self._torn: dict[str, str] = {}  # what is wrong with frames that have two parents
        self._on_way: frozenset[str] = frozenset()  # the frames with a parent on it

    def add(self, edge: Edge) -> bool:
        """Take in that a transform was broadcast; say whether its values may matter.

        They may if it is on the way, or if the way is not known yet.

        Raises:
            ContractError: If it is on the way, and there is no one way any more.
        """
        if self._above.get(edge.child) != edge:
            self._learn(edge)
        if self.problem and edge.child in self._on_way:
            raise ContractError(f"{self._topic}: {self.problem}")
        return self.way is None or edge.child in self._on_way

    def explanation(self) -> str:
        """Why there is no way, as a sentence without a full stop; empty if there is one."""
        if self.problem:
            return f"{self._topic}: {self.problem}"
        if self.way is not None:
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
            if self.way is None:
                self._look()
            return
        self._torn.setdefault(edge.child, _torn(known, edge))
        self._judge()

    def _look(self) -> None:
        """Find the way, if it is known by now."""
        up, down = (self._ancestors(frame) for frame in self._frames_of_stream)
        shared = next((frame for frame in up if frame in set(down)), None)
        if shared is None:
            return
        rising = [Step(self._above[frame], False) for frame in up[: up.index(shared)]]
        falling = [Step(self._above[frame], True) for frame in down[: down.index(shared)]]
        self.way = (*rising, *reversed(falling))
        self._on_way = frozenset(step.edge.child for step in self.way)
        self._judge()

    def _judge(self) -> None:
        """Note if a frame on the way has two parents."""
        torn = (self._torn.get(frame, "") for frame in self._on_way)
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
            chain = self._ancestors(frame)
            last = self._above.get(chain[-1])
            if last is not None:
                loop = [*chain[chain.index(last.parent) :], last.parent]
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
