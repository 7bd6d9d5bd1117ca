"""What is wrong with a link on purpose: latency, jitter, loss and noise, drawn from a seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError

Vector = NDArray[np.float64]
Tag = TypeVar("Tag")


@dataclass(frozen=True)
class LinkFaults:
    """What a link does to each message.

    Attributes:
        latency_ns: It arrives so much later.
        jitter_ns: And by up to so much more, drawn evenly; messages never overtake each other.
        drop: Share of the messages that do not arrive at all.
        noise: Standard deviation of the Gaussian noise on each number, in its own unit.
    """

    latency_ns: int = 0
    jitter_ns: int = 0
    drop: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop < 1.0:
            raise ConfigError(f"a link drops {self.drop:g} of its messages: give 0 to below 1")
        if min(self.latency_ns, self.jitter_ns, self.noise) < 0:
            raise ConfigError("latency, jitter and noise of a link must not be negative")

    def over(self, factor: float) -> LinkFaults:
        """Return the same link with its times divided by ``factor``."""
        return LinkFaults(
            round(self.latency_ns / factor), round(self.jitter_ns / factor), self.drop, self.noise
        )


@dataclass
class LinkCounts:
    """What a link has done since the start: messages taken, and those that it lost."""

    sent: int = 0
    dropped: int = 0


class FaultyLink(Generic[Tag]):
    """A queue between sender and receiver; without faults, what is sent is due at once.

    Attributes:
        counts: What it has done.

    Args:
        faults: What it does to each message.
        rng: Source of its chances; equal seeds and sendings give equal faults.
    """

    def __init__(self, faults: LinkFaults, rng: np.random.Generator) -> None:
        self.counts = LinkCounts()
        self._faults = faults
        self._rng = rng
        self._queue: deque[tuple[int, Vector, Tag]] = deque()

    def send(self, values: Vector, tag: Tag, now_ns: int) -> None:
        """Send numbers of any shape, with a tag that stays as it is."""
        faults = self._faults
        self.counts.sent += 1
        if faults.drop and self._rng.random() < faults.drop:
            self.counts.dropped += 1
            return
        delay_ns = faults.latency_ns
        if faults.jitter_ns:
            delay_ns += int(self._rng.integers(0, faults.jitter_ns, endpoint=True))
        if faults.noise:
            values = values + self._rng.normal(0.0, faults.noise, np.shape(values))
        newest_ns = self._queue[-1][0] if self._queue else now_ns
        self._queue.append((max(newest_ns, now_ns + delay_ns), values, tag))

    def due(self, now_ns: int) -> Iterator[tuple[int, Vector, Tag]]:
        """Yield what has arrived by ``now_ns``, the oldest first, once: when, numbers, tag."""
        while self._queue and self._queue[0][0] <= now_ns:
            yield self._queue.popleft()


def link_rng(seed: int, *link: int) -> np.random.Generator:
    """Return the source of chances of one link out of several of the same seed."""
    return np.random.default_rng([seed, *link])
