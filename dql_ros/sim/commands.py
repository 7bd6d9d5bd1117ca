"""The command that a simulated robot follows: the last one received, until it is too old."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dql_ros.sim.faults import FaultyLink, LinkFaults, link_rng

Vector = NDArray[np.float64]


class HeldCommand:
    """Holds the newest command as a robot's driver does, and stops the robot without one.

    Attributes:
        received: How many messages came.
        refused: How many of them were not finite, and are ignored as ros2_controllers do.
        stops: How often the robot was stopped, since no command came in time.
        stopped: Whether it is stopped now.

    Args:
        safe: The command while there is no other, length A.
        parts: Where each stream's values are in it.
        timeout_ns: The command of a stream is followed for so long; ``None`` for ever.
        faults: What is wrong with the way of the commands.
        seed: Of these faults.
    """

    def __init__(
        self,
        safe: Sequence[float],
        parts: Sequence[slice],
        timeout_ns: int | None = None,
        faults: LinkFaults | None = None,
        seed: int = 0,
    ) -> None:
        self.received = 0
        self.refused = 0
        self.stops = 0
        self.stopped = False
        self._safe = np.array(safe, dtype=np.float64)
        self._values = self._safe.copy()
        self._parts = list(parts)
        self._timeout_ns = timeout_ns
        self._links: list[FaultyLink[None]] = [
            FaultyLink(faults or LinkFaults(), link_rng(seed, 1, index))
            for index in range(len(self._parts))
        ]
        self._came_ns: list[int | None] = [None] * len(self._parts)

    @property
    def lost(self) -> int:
        """How many messages the faults lost."""
        return sum(link.dropped for link in self._links)

    def receive(self, stream: int, values: Vector, now_ns: int) -> None:
        """Take a command of one stream, numbered as ``parts`` are, on the way."""
        self.received += 1
        if not np.isfinite(values).all():
            self.refused += 1
            return
        self._links[stream].send(values, None, now_ns)

    def at(self, now_ns: int) -> Vector:
        """Return what the robot follows at a time that never goes back, shape (A,)."""
        for index, (link, part) in enumerate(zip(self._links, self._parts, strict=True)):
            for came_ns, values, _ in link.due(now_ns):
                self._values[part] = values
                self._came_ns[index] = came_ns
        was_stopped, self.stopped = self.stopped, self._is_too_old(now_ns)
        self.stops += self.stopped and not was_stopped
        return self._safe.copy() if self.stopped else self._values.copy()

    def age_ns(self, now_ns: int) -> int | None:
        """Age of the oldest stream's command; ``None`` while one has none."""
        came = [time_ns for time_ns in self._came_ns if time_ns is not None]
        return now_ns - min(came) if len(came) == len(self._came_ns) else None

    def discount(self, elapsed_ns: int) -> None:
        """Let the commands be younger by a time that does not count, as a pause."""
        self._came_ns = [None if time is None else time + elapsed_ns for time in self._came_ns]

    def _is_too_old(self, now_ns: int) -> bool:
        """Whether a command that once came is missing now; before the first one nothing moves."""
        if self._timeout_ns is None:
            return False
        return any(
            time_ns is not None and now_ns - time_ns > self._timeout_ns
            for time_ns in self._came_ns
        )
