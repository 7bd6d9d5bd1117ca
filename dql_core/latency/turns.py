"""Timing functions in turns, and what their times say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A decision that takes at most this share of the period leaves room for the rest of the node.
SHARE_OF_PERIOD = 0.5


@dataclass(frozen=True)
class Latency:
    """How long one call took, in microseconds.

    Attributes:
        p50_us: Median.
        p95_us: 95th percentile.
        p99_us: 99th percentile.
        max_us: Longest.
    """

    p50_us: float
    p95_us: float
    p99_us: float
    max_us: float

    @classmethod
    def of(cls, times_us: NDArray[np.float64]) -> Latency:
        """Summarise measured times, of any shape."""
        return cls(*(float(value) for value in np.percentile(times_us, [50, 95, 99, 100])))

    @property
    def calls_per_s(self) -> float:
        """How many calls of median length fit in a second."""
        return 1e6 / self.p50_us

    @property
    def control_rate_hz(self) -> float:
        """Highest rate at which 99 of 100 calls leave half of the period to others."""
        return SHARE_OF_PERIOD * 1e6 / self.p99_us

    def to_json(self) -> dict[str, Any]:
        """Return all figures, in whole microseconds."""
        return {name: round(value) for name, value in asdict(self).items()} | {
            "calls_per_s": round(self.calls_per_s),
            "control_rate_hz": round(self.control_rate_hz, 1),
        }


def take_turns(
    functions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    calls: int,
    warm_up: int = 3,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, NDArray[np.float64]]:
    """Time functions in turns, so that whatever else the machine does falls on all of them.

    Args:
        functions: What to call, by name.
        rounds: How often each has its turn.
        calls: Calls in a turn.
        warm_up: Calls before each turn that are not counted: the others emptied the caches.
        clock: Gives nanoseconds.

    Returns:
        Time of each call in microseconds by name, shape (rounds, calls).
    """
    times = {name: np.empty((rounds, calls)) for name in functions}
    for turn in range(rounds):
        for name, function in functions.items():
            for _ in range(warm_up):
                function()
            for call in range(calls):
                begun = clock()
                function()
                times[name][turn, call] = (clock() - begun) / 1e3
    return times


def speed_ratio(
    reference_us: NDArray[np.float64], times_us: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return how many times faster than a reference something is: quartile, median, quartile.

    Args:
        reference_us: Times of the reference, shape (rounds, calls).
        times_us: Times of the other in the same rounds, shape (rounds, calls).
    """
    ratios = np.median(reference_us, axis=1) / np.median(times_us, axis=1)
    low, middle, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
    return low, middle, high
