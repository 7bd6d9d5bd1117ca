"""Figures of a topic: how much came, how evenly, how stamped, and how old when used.

They need bounded memory for streams of any length, and are the same however a stream is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_ros.codecs.stamps import are_times

MAX_LISTED_GAPS = 20
# Pauses farther from the median than this share of it are uneven: nothing can be missing there.
EVEN = 0.2
# A pause that is so many times as long as nine in ten of the others interrupts the stream.
INTERRUPTION = 10.0
# A float64's exponent and the first 6 bits of its fraction: classes 1/64 of an octave wide.
CLASS_SHIFT = 46
CLASSES = 64 * 64
FIRST_CLASS = int(np.float64(1.0).view(np.int64)) >> CLASS_SHIFT
# 2^64 divided by the golden ratio: multiples of it, modulo 2^64, fill the range evenly and in
# step with no period that a recording may have.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
CAPACITY = 65_536


class TopicStatistics:
    """Figures of a topic in one role.

    Attributes:
        absent: Messages that were skipped, and are in no other figure, since they have not got
            what the contract selects.
        ended: Trajectories without points.

    Args:
        topic: Absolute topic name.
        msgtype: Message type.
        role: What the contract needs it for.
        limit_ns: A longer pause counts as a gap; ``None`` where pauses are in order.
    """

    def __init__(self, topic: str, msgtype: str, role: str, limit_ns: int | None = None) -> None:
        self.absent = self.ended = 0
        self._names = {"topic": topic, "type": msgtype, "role": role}
        self._pauses = Pauses(limit_ns)
        self._stamps = _Stamps()
        self._ages = QuantileSample()

    @property
    def name(self) -> str:
        """Absolute topic name."""
        return self._names["topic"]

    @property
    def count(self) -> int:
        """Number of messages."""
        return self._pauses.count

    def add(
        self,
        log_times_ns: NDArray[np.int64],
        stamps_ns: NDArray[np.int64] | None = None,
    ) -> None:
        """Take note of messages that follow those of the last call.

        Args:
            log_times_ns: When each was received, in order; shape (n,).
            stamps_ns: Their header stamps, if they have any; shape (n,).
        """
        self._pauses.add(log_times_ns)
        if stamps_ns is not None:
            self._stamps.add(log_times_ns, stamps_ns)

    @property
    def pauses(self) -> Pauses:
        """The pauses between its messages."""
        return self._pauses

    def add_ages(self, ages_ns: NDArray[np.int64]) -> None:
        """Take note of the age of its value at each of some ticks that used one, shape (n,)."""
        self._ages.add(ages_ns)

    def to_json(self, start_ns: int | None = None) -> dict[str, Any]:
        """Return the figures in the units of people.

        Args:
            start_ns: The bag's start, from which the times of gaps are counted; by default the
                topic's first message.
        """
        return {
            **self._names,
            "count": self.count,
            "absent": self.absent,
            "ended": self.ended,
            **self._pauses.to_json(start_ns),
            **self._stamps.to_json(),
            "age_at_tick_ms": _quantiles_ms(self._ages),
        }


class _Stamps:
    """Header stamps of a topic's messages, beside the times of receipt."""

    def __init__(self) -> None:
        self._seen = False
        self._counts = {"backwards": 0, "duplicate": 0, "zero": 0}
        self._last_ns: int | None = None
        self._delays = QuantileSample()

    def add(self, log_times_ns: NDArray[np.int64], stamps_ns: NDArray[np.int64]) -> None:
        self._seen = True
        is_zero = stamps_ns == 0
        is_set = ~is_zero & are_times(stamps_ns)
        stamps = stamps_ns[is_set]
        self._counts["zero"] += int(is_zero.sum())
        if len(stamps) == 0:
            return
        self._delays.add(log_times_ns[is_set] - stamps)
        before = [] if self._last_ns is None else [self._last_ns]
        steps = np.diff(stamps, prepend=np.array(before, np.int64))
        self._counts["backwards"] += int((steps < 0).sum())
        self._counts["duplicate"] += int((steps == 0).sum())
        self._last_ns = int(stamps[-1])

    def to_json(self) -> dict[str, Any]:
        if not self._seen:
            return {"receive_minus_header_ms": None, "stamps": None}
        return {
            "receive_minus_header_ms": _quantiles_ms(self._delays),
            "stamps": dict(self._counts),
        }


def _quantiles_ms(sample: QuantileSample) -> dict[str, float | bool] | None:
    if sample.count == 0:
        return None
    p50, p95 = sample.quantiles(0.5, 0.95)
    return _in_ms(sample, min=sample.minimum, p50=p50, p95=p95, max=sample.maximum)


def _in_ms(sample: QuantileSample, **figures_ns: float) -> dict[str, float | bool]:
    figures = {name: round(float(value) / 1e6, 6) for name, value in figures_ns.items()}
    return {**figures, "sampled": sample.is_thinned}


class Pauses:
    """The pauses between times of arrival, taken in order: how even, which are gaps.

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
        self._span_ns = 0
        self._is_new_recording = True
        self._listed: list[tuple[int, int]] = []
        self._numbers = np.zeros(CLASSES, dtype=np.int64)
        self._sums_ns = np.zeros(CLASSES, dtype=np.float64)

    def add(self, times_ns: NDArray[np.int64]) -> None:
        """Take the next times of arrival, shape (n,)."""
        if len(times_ns) == 0:
            return
        times = times_ns
        if self.count == 0:
            self.first_ns = int(times_ns[0])
        if not self._is_new_recording:
            times = np.concatenate((np.array([self.last_ns], np.int64), times_ns))
        self._is_new_recording = False
        self.count += len(times_ns)
        self.last_ns = int(times_ns[-1])
        self._span_ns += int(times[-1]) - int(times[0])
        pauses = np.diff(times)
        self._sample.add(pauses)
        self._classify(pauses)
        if self._limit_ns is not None:
            found = np.flatnonzero(pauses > self._limit_ns)
            self.gaps += len(found)
            for index in found[: MAX_LISTED_GAPS - len(self._listed)]:
                self._listed.append((int(times[index]), int(times[index + 1])))

    def begin_recording(self) -> None:
        """What arrives next is of another recording: no pause lies between."""
        self._is_new_recording = True

    def usual_s(self, fraction: float) -> float | None:
        """A quantile of the pauses without interruptions, in seconds; ``None`` without pauses."""
        if not self._sample.count:
            return None
        pauses = self._sample.values()
        usual = pauses[pauses <= self._interruption_ns()]
        return float(np.quantile(usual, fraction, method="lower")) / 1e9

    def to_json(self, start_ns: int | None = None) -> dict[str, Any]:
        """Return the figures in the units of people.

        Args:
            start_ns: What the times of gaps are counted from; by default the first arrival.
        """
        start_ns, keys = self.first_ns if start_ns is None else start_ns, ("from_s", "to_s")
        return {
            "rate_hz": self._rate_hz(),
            "median_pause_ms": self._median_ns() / 1e6 if self._sample.count else None,
            "jitter_ms": self._jitter_ms(),
            "longest_pause_s": round(self._sample.maximum / 1e9, 6),
            "limit_s": None if self._limit_ns is None else self._limit_ns / 1e9,
            "gaps": self.gaps,
            "gap_spans": [
                {key: round((end - start_ns) / 1e9, 6) for key, end in zip(keys, gap, strict=True)}
                for gap in self._listed
            ],
            "missing_estimate": self._missing(),
        }

    def _classify(self, pauses: NDArray[np.int64]) -> None:
        """Count pauses by length, for the estimate of what is missing."""
        lengths = np.maximum(pauses, 1).astype(np.float64)
        classes = (lengths.view(np.int64) >> CLASS_SHIFT) - FIRST_CLASS
        self._numbers += np.bincount(classes, minlength=CLASSES)
        self._sums_ns += np.bincount(classes, weights=lengths, minlength=CLASSES)

    def _interruption_ns(self) -> float:
        """A longer pause is an interruption; infinite where none is."""
        usual = float(np.quantile(self._sample.values(), 0.9, method="lower"))
        return INTERRUPTION * usual if usual > 0 else np.inf

    def _rate_hz(self) -> float | None:
        """Arrivals a second, interruptions left out."""
        if not self._span_ns:
            return None
        number, span_ns = float(self._sample.count), float(self._span_ns)
        limit_ns = self._interruption_ns()
        if self._sample.maximum > limit_ns:
            occupied = np.flatnonzero(self._numbers)
            kept = occupied[self._sums_ns[occupied] / self._numbers[occupied] <= limit_ns]
            number, span_ns = float(self._numbers[kept].sum()), float(self._sums_ns[kept].sum())
        return round(number / span_ns * 1e9, 3) if span_ns else None

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
        return _in_ms(self._sample, p50=p50, p95=p95, p99=p99, max=worst)

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
        numbers = self._numbers[occupied]
        mean_ns = self._sums_ns[occupied] / numbers
        return int((numbers * np.maximum(np.round(mean_ns / median) - 1, 0)).sum())


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
