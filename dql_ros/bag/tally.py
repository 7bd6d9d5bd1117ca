"""Counts of messages by topic, and the time that they span."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """How many messages, and from when to when.

    Attributes:
        counts: Messages by topic.
        first_ns: Log time of the earliest; ``None`` without any.
        last_ns: Log time of the latest.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first_ns: int | None = None
    last_ns: int = 0

    def note(self, topic: str, log_time_ns: int) -> None:
        """Count one message."""
        self.counts[topic] += 1
        self._span(log_time_ns, log_time_ns)

    def add(self, other: Tally) -> None:
        """Count the messages of another tally too."""
        self.counts.update(other.counts)
        if other.first_ns is not None:
            self._span(other.first_ns, other.last_ns)

    @property
    def span_ns(self) -> tuple[int, int]:
        """Log time of the earliest message, 0 without any, and nanoseconds to the latest."""
        first = self.first_ns or 0
        return first, max(self.last_ns - first, 0)

    def _span(self, first_ns: int, last_ns: int) -> None:
        self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        self.last_ns = max(self.last_ns, last_ns)
