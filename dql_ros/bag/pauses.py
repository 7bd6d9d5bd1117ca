"""The pauses between a topic's messages: how even they are, which are gaps, what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.quantiles import QuantileSample

MAX_LISTED_GAPS = 20
# Pauses farther from the median than this share of it are uneven: nothing can be missing there.
EVEN = 0.2
# A float64's exponent and the first 6 bits of its fraction: classes 1/64 of an octave wide.
CLASS_SHIFT = 46
CLASSES = 64 * 64
FIRST_CLASS = int(np.float64(1.0).view(np.int64)) >> CLASS_SHIFT


class Pauses:
    """Takes times of arrival, in order, and tells of the pauses between them.

    Attributes:
        count: Number of arrivals.
        first_ns: The first of them.
        last_ns: The last of them.
        gaps: Number of pauses longer than the limit.

    Args:
        limit_ns: A longer pause is a gap; ``None`` where pauses are in order.
    """

    def __init__(self, limit_ns: int | None = None) -> None:
        self.count = 0
        self.first_ns = 0
        self.last_ns = 0
        self.gaps = 0
        self._limit_ns = limit_ns
        self._sample = QuantileSample()
        self._listed: list[tuple[int, int]] = []
        self._numbers = np.zeros(CLASSES, dtype=np.int64)
        self._sums_ns = np.zeros(CLASSES, dtype=np.float64)

    def add(self, times_ns: NDArray[np.int64]) -> None:
        """Take the next times of arrival, shape (n,)."""
        if len(times_ns) == 0:
            return
        if self.count == 0:
            self.first_ns = int(times_ns[0])
            times = times_ns
        else:
            times = np.concatenate((np.array([self.last_ns], dtype=np.int64), times_ns))
        self.count += len(times_ns)
        self.last_ns = int(times_ns[-1])
        pauses = np.diff(times)
        self._sample.add(pauses)
        self._classify(pauses)
        if self._limit_ns is not None:
            found = np.flatnonzero(pauses > self._limit_ns)
            self.gaps += len(found)
            for index in found[: MAX_LISTED_GAPS - len(self._listed)]:
                self._listed.append((int(times[index]), int(times[index + 1])))

    def to_json(self, start_ns: int | None = None) -> dict[str, Any]:
        """Return the figures in the units of people.

        Args:
            start_ns: What the times of gaps are counted from; by default the first arrival.
        """
        start_ns = self.first_ns if start_ns is None else start_ns
        span_ns = self.last_ns - self.first_ns
        return {
            "rate_hz": round((self.count - 1) / span_ns * 1e9, 3) if span_ns else None,
            "median_pause_ms": self._median_ns() / 1e6 if self._sample.count else None,
            "jitter_ms": self._jitter_ms(),
            "longest_pause_s": round(self._sample.maximum / 1e9, 6),
            "limit_s": None if self._limit_ns is None else self._limit_ns / 1e9,
            "gaps": self.gaps,
            "gap_spans": [
                {
                    "from_s": round((from_ns - start_ns) / 1e9, 6),
                    "to_s": round((to_ns - start_ns) / 1e9, 6),
                }
                for from_ns, to_ns in self._listed
            ],
            "missing_estimate": self._missing(),
        }

    def _classify(self, pauses: NDArray[np.int64]) -> None:
        """Count pauses by length, for the estimate of what is missing."""
        lengths = np.maximum(pauses, 1).astype(np.float64)
        classes = (lengths.view(np.int64) >> CLASS_SHIFT) - FIRST_CLASS
        self._numbers += np.bincount(classes, minlength=CLASSES)
        self._sums_ns += np.bincount(classes, weights=lengths, minlength=CLASSES)

    def _median_ns(self) -> float:
        return self._sample.quantiles(0.5)[0]

    def _jitter_ms(self) -> dict[str, float | bool] | None:
        """Quantiles of how far pauses are from the median pause."""
        if self._sample.count == 0:
            return None
        median = self._median_ns()
        distances = np.abs(self._sample.values() - median)
        worst = max(self._sample.maximum - median, median - self._sample.minimum)
        p50, p95, p99 = np.quantile(distances, [0.5, 0.95, 0.99])
        named = {"p50": p50, "p95": p95, "p99": p99, "max": worst}
        rounded = {name: round(float(value) / 1e6, 6) for name, value in named.items()}
        return {**rounded, "sampled": self._sample.is_thinned}

    def _missing(self) -> int | None:
        """How many messages fit into the pauses that are a multiple of the median.

        ``None`` where there is nothing to estimate from: pauses may be of any length, or most
        are uneven, as with commands that are sent when somebody presses a key.
        """
        if self._limit_ns is None or self._sample.count == 0:
            return None
        median = self._median_ns()
        uneven = np.abs(self._sample.values() - median) > EVEN * median
        if median == 0 or uneven.mean() > 0.5:
            return None
        occupied = self._numbers > 0
        numbers, mean_ns = (
            self._numbers[occupied],
            self._sums_ns[occupied] / self._numbers[occupied],
        )
        return int((numbers * np.maximum(np.round(mean_ns / median) - 1, 0)).sum())
