"""What is odd about the clocks of a bag's topics, judged as with a contract, without one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.reader import Bag
from dql_ros.contract import FieldSelection, ObservationStream
from dql_ros.convert.clock import ClockFault, FaultKind, StreamClock, set_back, set_back_limit_ns

# A bag has no control rate: its clocks are judged as for a fast robot's.
PERIOD_NS = 10_000_000
# A clock that is this far ahead of, or behind, the recorder's is another clock.
AHEAD_MS, BEHIND_MS = -10.0, 1000.0


class TopicClock:
    """Judges the header stamps of a topic's messages, in the order of their receipt.

    Args:
        topic: Absolute topic name.
    """

    def __init__(self, topic: str) -> None:
        header = FieldSelection(path="header")
        stream = ObservationStream(
            topic=topic, type="std_msgs/msg/Header", fields=(header,), max_skew_s=None
        )
        self._clock = StreamClock(topic, stream, PERIOD_NS, refuses=False)
        self._faults = ClockFaults()

    def add(self, log_times_ns: NDArray[np.int64], stamps_ns: NDArray[np.int64]) -> None:
        """Take the next messages, shape (n,) each; those without a stamp do not count."""
        self._clock.judge(log_times_ns, stamps_ns, stamps_ns != 0)
        self._take()

    def finish(self) -> ClockFaults:
        """Return what was found, now that no message will follow."""
        self._clock.finish()
        self._take()
        return self._faults

    def _take(self) -> None:
        """Count what was found and forget it: a bag may have as much of it as messages."""
        self._faults.add(self._clock.faults)
        self._clock.faults.clear()


class ClockFaults:
    """What is wrong with the times of a topic's messages: of each kind the first, and how many."""

    def __init__(self) -> None:
        self._found: dict[FaultKind, tuple[ClockFault, int]] = {}

    def add(self, faults: Iterable[ClockFault]) -> None:
        """Take note of faults that come after those of the last call."""
        for fault in faults:
            first, count = self._found.get(fault.kind, (fault, 0))
            self._found[fault.kind] = first, count + fault.count

    def to_json(self) -> list[dict[str, Any]]:
        """Return a row for each kind: how many messages, which is the first, what is wrong."""
        return [
            {
                "kind": kind.name.lower(),
                "messages": count,
                "first": fault.number,
                "problem": fault.problem,
            }
            for kind, (fault, count) in self._found.items()
        ]


def recorder_faults(bag: Bag, repeated: Collection[str]) -> dict[str, ClockFaults]:
    """Return where the clock of a bag that was read had been set back, by the topic that shows it.

    Where a log time goes back, the bag is read once more.

    Args:
        bag: The bag.
        repeated: Topics that may be latched: a recorder repeats those, with old times.

    Raises:
        BagError: If it was set back at very many places.
    """
    found: dict[str, ClockFaults] = {}
    for step in bag.clock_steps(set_back_limit_ns(PERIOD_NS), repeated):
        found.setdefault(step.topic, ClockFaults()).add([set_back(step)])
    return found
