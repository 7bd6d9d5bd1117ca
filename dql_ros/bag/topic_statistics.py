"""What is told of a topic: how much came, how evenly, how stamped, and how old when used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.pauses import Pauses
from dql_ros.bag.quantiles import QuantileSample


class TopicStatistics:
    """Figures of one use of a topic, in bounded memory and the same however blocks are cut.

    Attributes:
        topic: Absolute topic name.
        msgtype: Message type.
        role: What the contract uses it for.

    Args:
        topic: Absolute topic name.
        msgtype: Message type.
        role: What the contract uses it for.
        limit_ns: A longer pause counts as a gap; ``None`` where pauses are in order.
    """

    def __init__(self, topic: str, msgtype: str, role: str, limit_ns: int | None = None) -> None:
        self.topic = topic
        self.msgtype = msgtype
        self.role = role
        self._pauses = Pauses(limit_ns)
        self._stamps = _Stamps()
        self._ages = QuantileSample()

    @property
    def count(self) -> int:
        """Number of messages."""
        return self._pauses.count

    @property
    def gaps(self) -> int:
        """Number of pauses longer than the limit."""
        return self._pauses.gaps

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
            "topic": self.topic,
            "type": self.msgtype,
            "role": self.role,
            "count": self.count,
            **self._pauses.to_json(start_ns),
            **self._stamps.to_json(),
            "age_at_tick_ms": _quantiles_ms(self._ages),
        }


class _Stamps:
    """Header stamps of a topic's messages, beside the times of receipt."""

    def __init__(self) -> None:
        self._seen = False
        self._zero = self._backwards = self._duplicate = 0
        self._last_ns: int | None = None
        self._delays = QuantileSample()

    def add(self, log_times_ns: NDArray[np.int64], stamps_ns: NDArray[np.int64]) -> None:
        self._seen = True
        is_set = stamps_ns != 0
        stamps = stamps_ns[is_set]
        self._zero += len(stamps_ns) - len(stamps)
        if len(stamps) == 0:
            return
        self._delays.add(log_times_ns[is_set] - stamps)
        before = stamps[:1] if self._last_ns is None else np.array([self._last_ns])
        steps = np.diff(stamps, prepend=before)
        steps = steps[1:] if self._last_ns is None else steps
        self._backwards += int((steps < 0).sum())
        self._duplicate += int((steps == 0).sum())
        self._last_ns = int(stamps[-1])

    def to_json(self) -> dict[str, Any]:
        if not self._seen:
            return {"receive_minus_header_ms": None, "stamps": None}
        return {
            "receive_minus_header_ms": _quantiles_ms(self._delays),
            "stamps": {
                "backwards": self._backwards,
                "duplicate": self._duplicate,
                "zero": self._zero,
            },
        }


def _quantiles_ms(sample: QuantileSample) -> dict[str, float | bool] | None:
    if sample.count == 0:
        return None
    p50, p95 = sample.quantiles(0.5, 0.95)
    figures = {"min": sample.minimum, "p50": p50, "p95": p95, "max": sample.maximum}
    named = {name: round(value / 1e6, 6) for name, value in figures.items()}
    return {**named, "sampled": sample.is_thinned}
