"""Whether the publisher's clock and the recorder's were moved against each other.

The time from a header stamp to its receipt is a delay, which is never less than on an idle line,
plus what the two clocks differ by. The least of some neighbouring messages is therefore nearly
constant, whatever the jitter (so does NTP find a clock's offset: RFC 5905, section 10); where it
moves for good, a clock was set. Messages that came in a burst after they had waited, so that the
next followed sooner than it was stamped, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.storage.storage import MAX_TIME_NS
from dql_ros.convert.columns import Times

# ntpd sets a clock that is off by more than 128 ms, and turns it slowly if it is off by less.
LEAST_MOVE_NS = 100_000_000
# The least delay is looked for in so much time, and in so many messages at least.
WINDOW_NS = 5_000_000_000
WINDOW_MESSAGES = 10
# Of fewer messages nothing is said. They are enough where stamps go back, which no delay does;
# where the delay becomes less, the messages before may have waited for a recording to begin.
FEW_MESSAGES = 5
# A message waited if the next was received in less than this share of the time between stamps.
WAITED = 0.8
# So much of the delays on the lower side of a move is below all of those on the other.
JITTER = 0.9


class Move(NamedTuple):
    """A message from which on the delay is another.

    Attributes:
        number: Which message.
        arrived_ns: Its receipt.
        before_ns: The least delay before it.
        after_ns: The least delay from it on.
    """

    number: int
    arrived_ns: int
    before_ns: int
    after_ns: int


@dataclass(frozen=True)
class _Messages:
    """Neighbouring messages in the order of their receipt; shape (n,) each."""

    numbers: NDArray[np.int64]
    arrived_ns: Times
    stamps_ns: Times

    def __len__(self) -> int:
        return len(self.numbers)

    def select(self, chosen: slice | NDArray[np.bool_]) -> _Messages:
        return _Messages(self.numbers[chosen], self.arrived_ns[chosen], self.stamps_ns[chosen])

    def __add__(self, other: _Messages) -> _Messages:
        return _Messages(
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.arrived_ns, other.arrived_ns]),
            np.concatenate([self.stamps_ns, other.stamps_ns]),
        )

    @property
    def delays_ns(self) -> Times:
        return self.arrived_ns - self.stamps_ns


class ClockOffset:
    """Watches the delays of a stream's messages in the order of their receipt.

    Args:
        limit_ns: Smaller moves matter to nobody.
    """

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = max(limit_ns, LEAST_MOVE_NS)
        nothing = np.empty(0, np.int64)
        self._waiting = _Messages(nothing, nothing, nothing)  # the last one, until the next comes
        self._known = _Messages(nothing, nothing, nothing)  # as far back as is needed
        self._judged = 0  # how many of these
        self._has_moved = False

    def add(self, numbers: NDArray[np.int64], arrived_ns: Times, stamps_ns: Times) -> list[Move]:
        """Take the next messages, and return the moves that are certain now."""
        if not len(numbers):
            return []
        messages = self._waiting + _Messages(numbers, arrived_ns, stamps_ns)
        self._waiting = messages.select(slice(-1, None))
        waited = np.diff(messages.arrived_ns) < WAITED * np.diff(messages.stamps_ns)
        self._known += messages.select(slice(-1)).select(~waited)
        return self._moves(is_finished=False)

    def finish(self) -> list[Move]:
        """Return the moves that are certain, now that no message will follow."""
        self._known += self._waiting
        self._waiting = self._waiting.select(slice(0))
        return self._moves(is_finished=True)

    def _moves(self, *, is_finished: bool) -> list[Move]:
        known, delays_ns = self._known, self._known.delays_ns
        steps = np.abs(np.diff(delays_ns)) > self._limit_ns
        candidates = np.flatnonzero(steps) + 1
        moves = []
        oldest = 0  # nothing from before it is compared
        judged = len(known)
        for index in candidates[candidates >= self._judged].tolist():
            begin, end = self._window(index)
            if known.stamps_ns[index] < known.stamps_ns[index - 1]:
                begin, end = index - FEW_MESSAGES, min(index + FEW_MESSAGES, end)
            if not is_finished and end == len(known):
                judged = index
                break
            begin = max(begin, oldest)
            is_first_less = delays_ns[index] < delays_ns[index - 1] and not self._has_moved
            needed = WINDOW_MESSAGES if is_first_less else FEW_MESSAGES
            if index - begin < needed or end - index < FEW_MESSAGES:
                continue
            before_ns, after_ns = delays_ns[begin:index], delays_ns[index:end]
            if self._is_move(before_ns, after_ns):
                moves.append(
                    Move(
                        int(known.numbers[index]),
                        int(known.arrived_ns[index]),
                        int(before_ns.min()),
                        int(after_ns.min()),
                    )
                )
                oldest, self._has_moved = index, True
        self._forget(max(oldest, min(self._window(judged)[0], judged)), judged)
        return moves

    def _is_move(self, before_ns: Times, after_ns: Times) -> bool:
        """Whether the least delay changed by more than the limit, and by more than the jitter."""
        least, other = before_ns, after_ns
        if before_ns.min() > after_ns.min():
            least, other = after_ns, before_ns
        is_beyond_jitter = other.min() > np.quantile(least, JITTER)
        return bool(other.min() - least.min() > self._limit_ns and is_beyond_jitter)

    def _window(self, index: int) -> tuple[int, int]:
        """Where the messages begin and end that are compared with those from ``index`` on."""
        times = self._known.arrived_ns
        if index >= len(times):
            last_ns = int(times[-1]) if len(times) else 0
            begin = int(np.searchsorted(times, max(last_ns - WINDOW_NS, -MAX_TIME_NS)))
            return max(min(begin, len(times) - WINDOW_MESSAGES), 0), len(times)
        time_ns = int(times[index])
        span_ns = (max(time_ns - WINDOW_NS, -MAX_TIME_NS), min(time_ns + WINDOW_NS, MAX_TIME_NS))
        begin, end = np.searchsorted(times, span_ns).tolist()
        begin = max(min(begin, index - WINDOW_MESSAGES), 0)
        return begin, min(max(end, index + WINDOW_MESSAGES), len(times))

    def _forget(self, begin: int, judged: int) -> None:
        self._known = self._known.select(slice(begin, None))
        self._judged = judged - begin
