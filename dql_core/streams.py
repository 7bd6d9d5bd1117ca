"""Causal time alignment: what was known of every stream at a tick, in integer nanoseconds.

The bag converter and the live node are two callers of this one module, so that a recording gives
the policy the same vectors, to the bit, as the robot does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A stamp so much older than the last one means that its clock was set back; in nanoseconds.
CLOCK_JUMP_NS = 1_000_000_000


class HoldBuffer:
    """The recent values of one stream, read by zero-order hold.

    When the stamps' clock is set back, what was known by the old clock is dropped.

    Args:
        capacity: How many values are kept; the oldest go first. Only values whose stamps lie
            ahead of the next query make more than one necessary.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._stamps: list[int] = []
        self._values: list[NDArray[np.float64]] = []
        self._received: list[int | None] = []
        self._last_pushed_ns: int | None = None

    def push(
        self, stamp_ns: int, value: NDArray[np.float64], received_ns: int | None = None
    ) -> None:
        """Add a value; stamps may come in any order, of equal ones the last pushed counts.

        Args:
            stamp_ns: When it was true.
            value: The value.
            received_ns: When it was received, on a steady clock.
        """
        if self._last_pushed_ns is not None and stamp_ns < self._last_pushed_ns - CLOCK_JUMP_NS:
            self.clear()
        self._last_pushed_ns = stamp_ns
        index = bisect_right(self._stamps, stamp_ns)
        self._stamps.insert(index, stamp_ns)
        self._values.insert(index, value)
        self._received.insert(index, received_ns)
        if len(self._stamps) > self._capacity:
            self._drop(1)

    def at(
        self, now_ns: int, max_age_ns: int | None = None, steady_ns: int | None = None
    ) -> NDArray[np.float64] | None:
        """Return the newest value with a stamp at or before ``now_ns``.

        Args:
            now_ns: The tick.
            max_age_ns: An older value counts as missing; ``None`` for no limit.
            steady_ns: The tick on the steady clock of `push`, see `age_ns`.

        Returns:
            The value, or ``None`` where there is none or only one that is too old.
        """
        age_ns = self.age_ns(now_ns, steady_ns)
        if age_ns is None or (max_age_ns is not None and age_ns > max_age_ns):
            return None
        return self._values[bisect_right(self._stamps, now_ns) - 1]

    def age_ns(self, now_ns: int, steady_ns: int | None = None) -> int | None:
        """Age at ``now_ns`` of the newest value that is not from after it; ``None`` if none.

        A value is at least as old as the time since it was received, whatever a clock says that
        is wrong, was set back or stands still.
        """
        index = bisect_right(self._stamps, now_ns) - 1
        if index < 0:
            return None
        age_ns, received_ns = now_ns - self._stamps[index], self._received[index]
        if steady_ns is None or received_ns is None:
            return age_ns
        return max(age_ns, steady_ns - received_ns)

    def forget_before(self, now_ns: int) -> None:
        """Drop the values that no query at or after ``now_ns`` can return."""
        superseded = bisect_right(self._stamps, now_ns) - 1
        if superseded > 0:
            self._drop(superseded)

    def clear(self) -> None:
        """Drop all values."""
        self._drop(len(self._stamps))

    def _drop(self, count: int) -> None:
        """Drop so many of the oldest values."""
        del self._stamps[:count], self._values[:count], self._received[:count]


@dataclass(frozen=True)
class StreamSpec:
    """What the alignment needs to know of a stream.

    Attributes:
        name: Unique among the streams; the topic.
        width: Length of its vectors.
        max_age_ns: Older values count as missing; ``None`` for a latched stream.
    """

    name: str
    width: int
    max_age_ns: int | None


@dataclass(frozen=True)
class Observation:
    """What was known at a tick.

    Attributes:
        values: The observation vector, shape (O,), or ``None`` while a stream is missing.
        missing: Names of the streams that have no value or only one that is too old.
        ages_ns: Age of each stream's newest value at the tick; ``None`` before its first.
    """

    values: NDArray[np.float32] | None
    missing: tuple[str, ...]
    ages_ns: dict[str, int | None]


class ObservationBuilder:
    """Concatenates the streams' held values into the observation vector.

    Args:
        streams: The streams in the vector's order.
    """

    def __init__(self, streams: Sequence[StreamSpec]) -> None:
        self._streams = tuple(streams)
        self._buffers = {stream.name: HoldBuffer() for stream in streams}
        self._width = sum(stream.width for stream in streams)

    def push(
        self,
        stream: str,
        stamp_ns: int,
        value: NDArray[np.float64],
        received_ns: int | None = None,
    ) -> None:
        """Add a value of ``stream``, shape (width,); see `HoldBuffer.push`."""
        self._buffers[stream].push(stamp_ns, value, received_ns)

    def at(self, now_ns: int, steady_ns: int | None = None) -> Observation:
        """Return what is known at ``now_ns``; later calls must not go back in time.

        The values are rounded to float32 here and nowhere else.

        Args:
            now_ns: The tick.
            steady_ns: The tick on the steady clock of `push`, see `HoldBuffer.age_ns`.
        """
        held: list[NDArray[np.float64]] = []
        missing: list[str] = []
        ages_ns: dict[str, int | None] = {}
        for stream in self._streams:
            buffer = self._buffers[stream.name]
            buffer.forget_before(now_ns)
            ages_ns[stream.name] = buffer.age_ns(now_ns, steady_ns)
            value = buffer.at(now_ns, stream.max_age_ns, steady_ns)
            if value is None:
                missing.append(stream.name)
            else:
                held.append(value)
        if missing:
            return Observation(None, tuple(missing), ages_ns)
        values = np.empty(self._width, dtype=np.float32)
        np.concatenate(held, out=values, casting="same_kind")
        return Observation(values, (), ages_ns)

    def clear(self, streams: Iterable[str] | None = None) -> None:
        """Drop what is known of ``streams``; of all by default."""
        for name in self._buffers if streams is None else streams:
            self._buffers[name].clear()
