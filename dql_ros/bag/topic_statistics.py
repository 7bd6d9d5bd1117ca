"""What is told of a topic: how much came, how evenly, and how old it was when it was used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class TopicStatistics:
    """Counts and spacing of one topic's messages.

    Attributes:
        topic: Absolute topic name.
        msgtype: Message type.
        role: What the contract uses it for.
        ages_ns: Age of its value at each tick that used one.
        limit_ns: A longer pause counts as a gap; ``None`` where pauses are in order.
        count: Number of messages.
        first_ns: Arrival of the first.
        last_ns: Arrival of the last.
        longest_ns: Longest pause between two.
        gaps: Number of pauses longer than the limit.
    """

    topic: str
    msgtype: str
    role: str
    limit_ns: int | None = None
    ages_ns: list[int] = field(default_factory=list)
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    longest_ns: int = 0
    gaps: int = 0

    def add(self, arrived_ns: int) -> None:
        """Take note of a message."""
        if self.count == 0:
            self.first_ns = arrived_ns
        else:
            pause_ns = arrived_ns - self.last_ns
            self.longest_ns = max(self.longest_ns, pause_ns)
            self.gaps += self.limit_ns is not None and pause_ns > self.limit_ns
        self.last_ns = arrived_ns
        self.count += 1

    def to_json(self) -> dict[str, Any]:
        """Return the figures in the units of people."""
        span_ns = self.last_ns - self.first_ns
        document: dict[str, Any] = {
            "topic": self.topic,
            "type": self.msgtype,
            "role": self.role,
            "count": self.count,
            "rate_hz": round((self.count - 1) / span_ns * 1e9, 3) if span_ns else None,
            "longest_pause_s": round(self.longest_ns / 1e9, 6),
            "limit_s": None if self.limit_ns is None else self.limit_ns / 1e9,
            "gaps": self.gaps,
        }
        if self.ages_ns:
            p50, p95, worst = np.percentile(self.ages_ns, [50, 95, 100]) / 1e6
            document["age_at_tick_ms"] = {
                "p50": round(p50, 3),
                "p95": round(p95, 3),
                "max": round(worst, 3),
            }
        return document
