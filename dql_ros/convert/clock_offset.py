"""Whether the publisher's clock and the recorder's were moved against each other.

The time from a header stamp to its receipt is a delay, which is never less than on an idle line,
plus what the two clocks differ by. The least of some neighbouring messages is therefore nearly
constant, whatever the jitter (so does NTP find a clock's offset: RFC 5905, section 10); where it
moves for good, a clock was set. Messages that came in a burst after they had waited, so that the
next followed sooner than it was stamped, are left out.

What one publisher sends arrives in the order in which it was sent: DDS and TCP see to it. Stamps
that go back are those of a clock that was set, or of publishers whose clocks differ; for that, one
message is enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
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
# So many messages are enough where the delay becomes more, or was another before: where it becomes
# less, the messages before may have waited for a recording to begin.
FEW_MESSAGES = 5
# At an end fewer are enough, if stamps jump while the receipts go on evenly: between two of them,
# and most of the others, is the usual time, more or less.
EVEN = 0.5
MOST = 0.8
# A message waited if the next was received in less than this share of the time between stamps.
WAITED = 0.8
# So much of the delays on the lower side of a move is below all of those on the other.
JITTER = 0.9
# Clocks that move more often than this, among messages that are given together, are useless.
MAX_MOVES = 1000


class Move(NamedTuple):
    """A message from which on the delay is another.

    Attributes:
        number: Which message.
        arrived_ns: Its receipt.
        before_ns: The least delay before it; of the one before it, if stamps go back.
        after_ns: The least delay from it on; its own, if stamps go back.
        back_ns: How much earlier than the newest it is stamped; 0 if stamps do not go back.
    """

    number: int
    arrived_ns: int
    before_ns: int
    after_ns: int
    back_ns: int = 0


@dataclass(frozen=True)
class _Messages:
    """Neighbouring messages in the order of their receipt; shape (n,) each.

    Attributes:
        numbers: Their numbers on the topic.
        places: Which of the stream's messages they are.
        arrived_ns: Their receipt.
        stamps_ns: Their header stamps.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    arrived_ns: Times
    stamps_ns: Times

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def delays_ns(self) -> Times:
        return self.arrived_ns - self.stamps_ns

    def select(self, chosen: slice | NDArray[np.bool_]) -> _Messages:
        return _Messages(*(column[chosen] for column in self._columns))

    @property
    def _columns(self) -> tuple[NDArray[np.int64], ...]:
        return self.numbers, self.places, self.arrived_ns, self.stamps_ns

    @staticmethod
    def joined(parts: Sequence[_Messages]) -> _Messages:
        columns = zip(*(part._columns for part in parts), strict=True)
        return _Messages(*(np.concatenate(column) for column in columns))


_NOTHING = _Messages(*(np.empty(0, np.int64),) * 4)


class _Alike(NamedTuple):
    """Messages whose delays are nearly the same."""

    messages: _Messages
    least_ns: int
    most_ns: int


class ClockOffset:
    """Watches the delays of a stream's messages in the order of their receipt.

    Args:
        limit_ns: Smaller moves matter to nobody.
    """

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = max(limit_ns, LEAST_MOVE_NS)
        self._count = 0
        # What came last, as long as there is nothing to look for in it.
        self._alike: deque[_Alike] = deque()
        self._waiting = _NOTHING  # the last one, until the next comes
        self._known = _NOTHING  # as far back as is needed
        self._judged = 0  # how many of these
        self._has_moved = False
        self._newest_ns: int | None = None  # of the stamps, since they last went back

    def add(self, numbers: NDArray[np.int64], arrived_ns: Times, stamps_ns: Times) -> list[Move]:
        """Take the next messages, and return the moves that are certain now.

        Args:
            numbers: Their numbers on the topic, shape (n,).
            arrived_ns: Their receipt, ascending, shape (n,).
            stamps_ns: Their header stamps, shape (n,).
        """
        if not len(numbers):
            return []
        places = np.arange(self._count, self._count + len(numbers))
        self._count += len(numbers)
        messages = _Messages(numbers, places, arrived_ns, stamps_ns)
        if self._is_alike(messages):
            return []
        self._take(_Messages.joined([_NOTHING, *(each.messages for each in self._alike)]))
        self._alike.clear()
        moves: list[Move] = []
        for part, back_ns in self._ordered(messages):
            if back_ns:
                moves += self._went_back(part, back_ns)
            self._take(part)
            moves += self._moves(is_finished=False)
            if len(moves) > MAX_MOVES:
                break
        self._rest()
        return moves

    def finish(self) -> list[Move]:
        """Return the moves that are certain, now that no message will follow."""
        self._known = _Messages.joined([self._known, self._waiting])
        self._waiting = _NOTHING
        return self._moves(is_finished=True)

    def _is_alike(self, messages: _Messages) -> bool:
        """Take messages that are delayed as those before them, if these are, too."""
        if len(self._known):
            return False
        delays_ns = messages.delays_ns
        all_least = least_ns = int(delays_ns.min())
        all_most = most_ns = int(delays_ns.max())
        for each in self._alike:
            all_least, all_most = min(all_least, each.least_ns), max(all_most, each.most_ns)
        if all_most - all_least > self._limit_ns:
            return False
        self._alike.append(_Alike(messages, least_ns, most_ns))
        newest_ns = int(messages.stamps_ns.max())
        self._newest_ns = max(self._newest_ns or newest_ns, newest_ns)
        end_ns, end = int(messages.arrived_ns[-1]), self._count
        while len(self._alike) > 1:
            second = self._alike[1].messages
            if end_ns - int(second.arrived_ns[0]) <= WINDOW_NS:
                break
            if end - int(second.places[0]) <= WINDOW_MESSAGES:
                break
            self._alike.popleft()
        return True

    def _rest(self) -> None:
        """Look no further at messages whose delays are alike."""
        messages = _Messages.joined([self._known, self._waiting])
        delays_ns = messages.delays_ns
        least_ns, most_ns = int(delays_ns.min()), int(delays_ns.max())
        if most_ns - least_ns <= self._limit_ns:
            self._alike.append(_Alike(messages, least_ns, most_ns))
            self._forget(len(self._known), len(self._known))
            self._waiting = _NOTHING

    def _ordered(self, messages: _Messages) -> Iterator[tuple[_Messages, int]]:
        """Yield the messages in parts, and by how much the first of each goes back.

        It is 0 for the first part, if that goes on.
        """
        stamps_ns = messages.stamps_ns
        begin, back_ns = 0, 0
        while True:
            first_ns = int(stamps_ns[begin]) if self._newest_ns is None else self._newest_ns
            newest_ns = np.maximum.accumulate(np.append(first_ns, stamps_ns[begin:]))
            backs_ns = newest_ns[:-1] - stamps_ns[begin:]
            found = np.flatnonzero(backs_ns > self._limit_ns)
            end = begin + int(found[0]) if len(found) else len(messages)
            if end > begin:
                yield messages.select(slice(begin, end)), back_ns
            if not len(found):
                self._newest_ns = int(newest_ns[-1])
                return
            self._newest_ns = int(stamps_ns[end])
            begin, back_ns = end, int(backs_ns[found[0]])

    def _went_back(self, messages: _Messages, back_ns: int) -> list[Move]:
        """Judge what came before stamps went back, and begin anew."""
        before_ns = int((self._waiting if len(self._waiting) else messages).delays_ns[-1])
        moves = self.finish()
        number, arrived_ns = int(messages.numbers[0]), int(messages.arrived_ns[0])
        moves.append(Move(number, arrived_ns, before_ns, int(messages.delays_ns[0]), back_ns))
        self._forget(len(self._known), len(self._known))
        self._has_moved = True
        return moves

    def _take(self, messages: _Messages) -> None:
        """Keep the messages that did not wait."""
        messages = _Messages.joined([self._waiting, messages])
        self._waiting = messages.select(slice(-1, None))
        waited = np.diff(messages.arrived_ns) < WAITED * np.diff(messages.stamps_ns)
        self._known = _Messages.joined([self._known, messages.select(slice(-1)).select(~waited)])

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
            are_few = index - begin < needed or end - index < FEW_MESSAGES
            if are_few and not self._jumps(begin, index, end):
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

    def _jumps(self, begin: int, index: int, end: int) -> bool:
        """Whether stamps jump at ``index`` in messages that are received evenly."""
        if not begin < index < end or end - begin < WINDOW_MESSAGES:
            return False
        near, place = self._known.select(slice(begin, end)), index - begin - 1
        counts = np.diff(near.places)
        received, stamped = np.diff(near.arrived_ns) / counts, np.diff(near.stamps_ns) / counts
        usual = np.median(stamped)
        is_even = np.abs(received - usual) < EVEN * usual
        jump_ns = abs(stamped[place] - usual) * counts[place]
        return bool(is_even[place] and is_even.mean() > MOST and jump_ns > self._limit_ns)

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
