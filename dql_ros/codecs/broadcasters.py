"""Whether one node broadcasts a transform, or several that disagree.

Nothing in a message says who sent it, and neither recordings nor rclpy tell. But what one node
sends arrives in the order in which it was sent, and a frame cannot be at two places: stamps that
come twice or go back with another pose, poses that change to and fro between two places, and a
static transform that changes are the work of several.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dql_core.streams import CLOCK_JUMP_NS
from dql_ros.codecs.frame_tree import Edge

# Poses nearer than this, in m and in numbers of a unit quaternion, may be noise or rounding.
_APART = 0.01
_STATIC_APART = 1e-6
# To and fro means: back to within this share of the way.
_SHARE_LEFT = 0.1
# So often in a row, or with so many stamps that are not new, it is no chance.
_TURNS = 8
_STALE_STAMPS = 3
Pose = Sequence[float]


class BroadcasterWatch:
    """Looks at a transform's values in the order of their arrival.

    Args:
        edge: The transform.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._last: Pose | None = None
        self._before: Pose | None = None
        self._newest_ns = 0
        self._turns = self._stale = 0

    def note(self, stamp_ns: int, pose: Pose) -> str:
        """Take in the next value.

        Args:
            stamp_ns: Its time; of a static transform it does not matter.
            pose: Three numbers of the translation, four of the rotation.

        Returns:
            What is wrong, as a clause; empty if nothing is known to be.
        """
        before, last, newest_ns = self._before, self._last, self._newest_ns
        self._before, self._last = last, pose
        self._newest_ns = stamp_ns if last is None else max(newest_ns, stamp_ns)
        if last is None:
            return ""
        apart = distance(last, pose)
        if self._edge.is_static:
            return self._static(last, apart)
        if stamp_ns < newest_ns - CLOCK_JUMP_NS:  # the clock was set back
            self._newest_ns = stamp_ns
        elif stamp_ns <= newest_ns and apart > _APART:
            self._stale += 1
        turns = before is not None and apart > _APART
        if turns and before is not None and distance(before, pose) < _SHARE_LEFT * apart:
            self._turns += 1
        else:
            self._turns = 0
        if self._stale >= _STALE_STAMPS:
            return self._several("its stamps come twice or go back, each time with another pose")
        if self._turns >= _TURNS:
            return self._several("its pose changes to and fro between two places")
        return ""

    def note_block(
        self, stamps_ns: NDArray[np.int64], poses: NDArray[np.float64]
    ) -> tuple[str, int] | None:
        """Take in the next n values as `note` does, shapes (n,) and (n, 7).

        Returns:
            What is wrong first, and with which of them; ``None`` if nothing is.
        """
        if self._last is not None and not self._edge.is_static and len(poses) > 1:
            steps = np.abs(np.diff(poses, axis=0, prepend=np.array([self._last])))
            newer = np.diff(stamps_ns, prepend=self._newest_ns) > 0
            if newer.all() and not (steps > _APART).any():  # one node, that moves it slowly
                self._before, self._last = tuple(poses[-2].tolist()), tuple(poses[-1].tolist())
                self._newest_ns, self._turns = int(stamps_ns[-1]), 0
                return None
        values = zip(stamps_ns.tolist(), poses.tolist(), strict=True)
        for index, (stamp_ns, pose) in enumerate(values):
            if problem := self.note(stamp_ns, pose):
                return problem, index
        return None

    def _static(self, last: Pose, apart: float) -> str:
        if not apart > _STATIC_APART:
            return ""
        self._last = last  # the others are compared with the first, too
        return (
            f"the static transform of {self._edge} changes: two nodes broadcast it and disagree, "
            f"or it was calibrated anew; stop one of them, cut the recording in two there, or "
            f"broadcast what moves on the topic for that"
        )

    def _several(self, why: str) -> str:
        return (
            f"two nodes broadcast {self._edge} and disagree: {why}; stop one of them, for nobody "
            f"knows which is right"
        )


def distance(one: Pose, other: Pose) -> float:
    """How far two poses are apart: the largest difference of a number; NaN counts as 0.

    A quaternion and its negative are one rotation.
    """
    moved = max(abs(one[i] - other[i]) for i in range(3))
    turned = min(
        max(abs(one[i] - other[i]) for i in range(3, 7)),
        max(abs(one[i] + other[i]) for i in range(3, 7)),
    )
    return max(moved, turned)
