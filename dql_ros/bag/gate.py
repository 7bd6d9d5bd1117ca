"""When an episode may run: start and stop events, or a state that lasts."""

from __future__ import annotations

from bisect import insort

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.columns import Times
from dql_ros.contract import EpisodeRules


class Gate:
    """Open from a start to the next stop, or during a state; always, where there is no rule.

    A start while it is open closes it and opens it again, and so does a stop where the contract
    has no start: either separates two episodes.

    Args:
        rules: The contract's rules.
    """

    def __init__(self, rules: EpisodeRules) -> None:
        self.has_opening = rules.start is not None or rules.during is not None
        self._events: list[tuple[int, bool]] = []  # ascending; at the same time stop, then start
        self._state = False

    def event(self, name: str, time_ns: int, matches: bool) -> None:
        """Take note of a message of the ``start``, ``stop`` or ``during`` topic.

        Args:
            name: Which of the three.
            time_ns: When it arrived; not before an earlier one of the same topic.
            matches: Whether it says what the contract's event waits for.
        """
        if name == "during":
            if matches != self._state:
                insort(self._events, (time_ns, matches))
            self._state = matches
        elif matches:
            insort(self._events, (time_ns, name == "start" or not self.has_opening))

    def is_open(self, times_ns: Times) -> NDArray[np.bool_]:
        """Whether an episode may run at each time, shape (n,)."""
        opens = np.array([not self.has_opening, *(opens for _, opens in self._events)])
        events_ns = np.array([time_ns for time_ns, _ in self._events], np.int64)
        return opens[np.searchsorted(events_ns, times_ns, side="right")]

    def next_opening(self, after_ns: int) -> int | None:
        """Time of the first opening after ``after_ns``."""
        return next((time for time, opens in self._events if opens and time > after_ns), None)

    def next_event(self, after_ns: int) -> int | None:
        """When an episode that runs at ``after_ns`` must stop, as far as is known."""
        return next((time for time, _ in self._events if time > after_ns), None)

    def forget_before(self, time_ns: int) -> None:
        """Drop the events that are over at ``time_ns``, but for the last."""
        while len(self._events) > 1 and self._events[1][0] < time_ns:
            del self._events[0]
