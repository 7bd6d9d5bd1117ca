"""Quantiles of streams of any length in bounded memory, the same however the stream is cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# 2^64 divided by the golden ratio: multiples of it, modulo 2^64, fill the range evenly and in
# step with no period that a recording may have.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
CAPACITY = 65_536


class QuantileSample:
    """A sample of a stream of integers; the whole stream as long as it fits.

    Which elements are kept depends on their positions alone. Element i is kept at level L if
    ``i * GOLDEN mod 2^64 < 2^(64 - L)``, which is true of one in 2^L, evenly spread; the level
    rises when the sample is full.

    Attributes:
        count: Elements seen.
        minimum: The smallest of all; 0 if there is none.
        maximum: The largest of all; 0 if there is none.

    Args:
        capacity: Largest number of elements kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.count = 0
        self.minimum = 0
        self.maximum = 0
        self._capacity = capacity
        self._level = 0
        self._kept = 0
        self._values: list[NDArray[np.int64]] = []
        self._ranks: list[NDArray[np.uint64]] = []

    @property
    def is_thinned(self) -> bool:
        """Whether the sample is less than the whole stream."""
        return self._level > 0

    def add(self, values: NDArray[np.int64]) -> None:
        """Take the next elements of the stream, shape (n,)."""
        if len(values) == 0:
            return
        smallest, largest = int(values.min()), int(values.max())
        self.minimum = smallest if self.count == 0 else min(self.minimum, smallest)
        self.maximum = largest if self.count == 0 else max(self.maximum, largest)
        ranks = np.arange(self.count, self.count + len(values), dtype=np.uint64) * GOLDEN
        self.count += len(values)
        self._keep(np.array(values, dtype=np.int64), ranks)
        while self._kept > self._capacity:
            self._level += 1
            values, ranks = np.concatenate(self._values), np.concatenate(self._ranks)
            self._values, self._ranks, self._kept = [], [], 0
            self._keep(values, ranks)

    def values(self) -> NDArray[np.int64]:
        """Return the sample in the stream's order, shape (kept,)."""
        return np.concatenate(self._values) if self._values else np.zeros(0, dtype=np.int64)

    def quantiles(self, *fractions: float) -> Sequence[float]:
        """Return quantiles of the sample, linearly interpolated; the stream must not be empty."""
        return [float(each) for each in np.quantile(self.values(), fractions)]

    def _keep(self, values: NDArray[np.int64], ranks: NDArray[np.uint64]) -> None:
        if self._level > 0:
            chosen = ranks < np.uint64(1 << (64 - self._level))
            values, ranks = values[chosen], ranks[chosen]
        if len(values):
            self._values.append(values)
            self._ranks.append(ranks)
            self._kept += len(values)
