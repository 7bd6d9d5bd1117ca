"""What cutting a recording gives: episodes, and the spans that are in none of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STOPPED = "the recording stopped"
BETWEEN = "between episodes"
MARKED = "stopped by its marker"
NO_TICK = "no usable tick for too long"


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode as the bag has it.

    Attributes:
        ticks_ns: When each observation is of, shape (T + 1,).
        observations: Shape (T + 1, O).
        actions: Shape (T, A), as commanded: not clipped.
        rewards: Shape (T,), or ``None`` if the contract names no reward topic.
        terminated: Whether the task itself ended it.
        truncated: Whether a signal, a gap or the end of the recording ended it.
        ending: How it ended, in words.
    """

    ticks_ns: NDArray[np.int64]
    observations: NDArray[np.float32]
    actions: NDArray[np.float64]
    rewards: NDArray[np.float64] | None
    terminated: bool
    truncated: bool
    ending: str

    @property
    def start_ns(self) -> int:
        """Time of its first tick."""
        return int(self.ticks_ns[0])

    @property
    def end_ns(self) -> int:
        """Time of its last observation."""
        return int(self.ticks_ns[-1])

    def __len__(self) -> int:
        """Number of transitions, T."""
        return len(self.actions)


@dataclass(frozen=True)
class SkippedSpan:
    """A span of a recording that is in no episode.

    Attributes:
        start_ns: Where it begins.
        end_ns: Where it ends.
        reason: Why nothing could be made of it.
    """

    start_ns: int
    end_ns: int
    reason: str
