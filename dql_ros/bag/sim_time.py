"""Log times in lockstep simulation: from the order in which messages were sent."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Collection
from typing import NamedTuple

# How far back the clocks are kept for late messages, in wall time.
CLOCK_HISTORY_NS = 10_000_000_000
# How long a message waits for the next clock. A lost packet may hold up all clocks until their
# sender asks what has arrived: in Fast DDS after 3 s, the heartbeat period of its writers.
LONGEST_WAIT_NS = 5_000_000_000


class StampedMessage(NamedTuple):
    """A message with the times under which it is recorded.

    Attributes:
        topic: Topic name.
        data: Serialised message.
        log_time_ns: Simulated time at which it was sent.
        publish_time_ns: Wall time at which it was sent.
    """

    topic: str
    data: bytes
    log_time_ns: int
    publish_time_ns: int


class SimTimeOrder:
    """Stamps each message with the simulated time of the last ``/clock`` sent before it.

    In lockstep the simulation outruns the transport: at the receiver, the next ``/clock`` may
    arrive before the command that made it possible. The source time stamps are taken at the
    writers, and a command is always sent after the state that it answers and before the clock
    that follows; so their order is the true one. It needs one wall clock for all writers.

    Messages are kept back for a short window, until those that were sent earlier have arrived,
    and until a clock has arrived that was sent later: then no clock from before is missing. Where
    none comes, as from a simulation that has stopped, they wait for `LONGEST_WAIT_NS`; a kill
    meanwhile loses them.
    A message that comes even later still gets the right time, out of order, and is counted in
    ``late``; so is a clock, whose time some messages then lack. What was sent before the first
    clock has no simulated time and is counted in ``dropped``, except on latched topics, where it
    gets the first clock's.

    Args:
        window_ns: How long messages are kept back, in wall time.
        latched: Topics whose messages stay valid until replaced.
    """

    def __init__(self, window_ns: int = 100_000_000, latched: Collection[str] = ()) -> None:
        self._window_ns = window_ns
        self._latched = frozenset(latched)
        self._pending: list[tuple[int, int, str, bytes]] = []
        self._clocks: list[tuple[int, int]] = []  # (source time, simulated time), ascending
        self._before_first: list[tuple[int, str, bytes]] = []
        self._arrivals = 0
        self._released_ns = -1
        self.late = 0
        self.dropped = 0

    def push(self, topic: str, data: bytes, source_ns: int) -> None:
        """Add a message that was sent at wall time ``source_ns``."""
        self._arrivals += 1
        self.late += source_ns < self._released_ns
        heapq.heappush(self._pending, (source_ns, self._arrivals, topic, data))

    def push_clock(self, sim_ns: int, source_ns: int) -> None:
        """Note that the simulated time became ``sim_ns`` at wall time ``source_ns``."""
        self.late += source_ns < self._released_ns
        self._clocks.insert(bisect_right(self._clocks, (source_ns, sim_ns)), (source_ns, sim_ns))

    def pop_ready(self, now_wall_ns: int) -> list[StampedMessage]:
        """Return the messages that were sent a window before ``now_wall_ns`` and know the time."""
        last_clock_ns = self._clocks[-1][0] if self._clocks else -1
        known_ns = min(now_wall_ns - self._window_ns, last_clock_ns)
        return self._release(max(known_ns, now_wall_ns - LONGEST_WAIT_NS))

    def flush(self) -> list[StampedMessage]:
        """Return all messages that are left, at the end of a recording."""
        ready = self._release(max((entry[0] for entry in self._pending), default=0))
        self.dropped += len(self._before_first)
        self._before_first.clear()
        return ready

    def _release(self, until_ns: int) -> list[StampedMessage]:
        ready: list[StampedMessage] = []
        while self._pending and self._pending[0][0] <= until_ns:
            source_ns, _, topic, data = heapq.heappop(self._pending)
            sim_ns = self._sim_time_at(source_ns)
            if sim_ns is not None:
                ready.append(StampedMessage(topic, data, sim_ns, source_ns))
            elif topic in self._latched:
                self._before_first.append((source_ns, topic, data))
            else:
                self.dropped += 1
        self._released_ns = max(self._released_ns, until_ns)
        latched = self._latched_before_first()
        forgotten = bisect_right(self._clocks, (self._released_ns - CLOCK_HISTORY_NS, 0)) - 1
        del self._clocks[: max(forgotten, 0)]
        return latched + ready

    def _latched_before_first(self) -> list[StampedMessage]:
        if not self._clocks or not self._before_first:
            return []
        first_ns = self._clocks[0][1]
        kept, self._before_first = self._before_first, []
        return [StampedMessage(topic, data, first_ns, source) for source, topic, data in kept]

    def _sim_time_at(self, source_ns: int) -> int | None:
        index = bisect_right(self._clocks, source_ns, key=lambda clock: clock[0]) - 1
        return self._clocks[index][1] if index >= 0 else None
