"""Causal time alignment: what was known of every stream at a tick, in integer nanoseconds.

One rule, the causal zero-order hold, in two forms. A control loop asks for one tick at a time:
`HoldBuffer` answers it, and `ObservationBuilder` makes the observation vector of the answers. The
bag converter asks for millions of ticks: `HeldColumn` answers them by array operations. Tests
prove the two equal, to the bit: on random streams, and on recordings that a node sees live.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
# A stamp so much older than the last one means that its clock was set back.
CLOCK_JUMP_NS = SECOND_NS
Times = NDArray[np.int64]
# Before every stamp that a recording can have.
BEGINNING_NS = np.iinfo(np.int64).min
# What was commanded, among the streams of an observation.
PREVIOUS_ACTION = "previous_action"
# A stream whose past is observed is kept for seconds, at any rate that a robot has.
MAX_PAST_VALUES = 100_000


class HoldBuffer:
    """The recent values of one stream, read by zero-order hold.

    When the stamps' clock is set back, what was known by the old clock is dropped.

    Args:
        capacity: How many values are kept; the oldest go first. Only values whose stamps lie
            ahead of the next query make more than one necessary.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._stamps: list[int] = []
        self._values: list[NDArray[np.float64]] = []
        self._received: list[int | None] = []
        self._asked: list[int | None] = []  # the first tick that each was known at
        self._last_pushed_ns: int | None = None

    def push(
        self, stamp_ns: int, value: NDArray[np.float64], received_ns: int | None = None
    ) -> None:
        """Add a value; stamps may come in any order, of equal ones the last pushed counts.

        Args:
            stamp_ns: When it was true.
            value: The value.
            received_ns: When it was received, on a steady clock.
        """
        if self._last_pushed_ns is not None and stamp_ns < self._last_pushed_ns - CLOCK_JUMP_NS:
            self.clear()
        self._last_pushed_ns = stamp_ns
        index = bisect_right(self._stamps, stamp_ns)
        self._stamps.insert(index, stamp_ns)
        self._values.insert(index, value)
        self._received.insert(index, received_ns)
        self._asked.insert(index, None)
        if len(self._stamps) > self._capacity:
            self._drop(1)

    def at(
        self,
        now_ns: int,
        max_age_ns: int | None = None,
        steady_ns: int | None = None,
        ago_ns: int = 0,
    ) -> NDArray[np.float64] | None:
        """Return the newest value with a stamp at or before ``now_ns``.

        Args:
            now_ns: The tick.
            max_age_ns: An older value counts as missing; ``None`` for no limit.
            steady_ns: The tick on the steady clock of `push`, see `age_ns`.
            ago_ns: Return what was held so long before the tick, by what had arrived by then.
                Where `push` had no time of receipt, that is the first tick that `note_tick` names.

        Returns:
            The value, or ``None`` where there is none or only one that is too old.
        """
        index = self._position(now_ns, steady_ns, ago_ns)
        age_ns = self._age_ns(index, now_ns, steady_ns)
        if age_ns is None or (max_age_ns is not None and age_ns - ago_ns > max_age_ns):
            return None
        return self._values[index]

    def age_ns(self, now_ns: int, steady_ns: int | None = None) -> int | None:
        """Age at ``now_ns`` of the newest value that is not from after it; ``None`` if none.

        A value is at least as old as the time since it was received, even if the stamps' clock is
        wrong, was set back or has stopped.
        """
        return self._age_ns(self._position(now_ns, steady_ns), now_ns, steady_ns)

    def _age_ns(self, index: int, now_ns: int, steady_ns: int | None) -> int | None:
        if index < 0:
            return None
        age_ns, received_ns = now_ns - self._stamps[index], self._received[index]
        if steady_ns is None or received_ns is None:
            return age_ns
        return max(age_ns, steady_ns - received_ns)

    def _position(self, now_ns: int, steady_ns: int | None, ago_ns: int = 0) -> int:
        """Where the value is that was held ``ago_ns`` before ``now_ns``; -1 if there is none."""
        index = bisect_right(self._stamps, now_ns - ago_ns) - 1
        while ago_ns and index >= 0 and not self._was_known(index, now_ns, steady_ns, ago_ns):
            index -= 1
        return index

    def _was_known(self, index: int, now_ns: int, steady_ns: int | None, ago_ns: int) -> bool:
        received_ns, asked_ns = self._received[index], self._asked[index]
        if steady_ns is not None and received_ns is not None:
            return received_ns <= steady_ns - ago_ns
        return asked_ns is not None and asked_ns <= now_ns - ago_ns

    def note_tick(self, now_ns: int) -> None:
        """Note that all that was pushed so far is known at ``now_ns``."""
        if None in self._asked:
            self._asked = [now_ns if asked is None else asked for asked in self._asked]

    def forget_before(self, now_ns: int, steady_ns: int | None = None, ago_ns: int = 0) -> None:
        """Drop the values that no query at or after ``now_ns`` can return, back to ``ago_ns``."""
        superseded = self._position(now_ns, steady_ns, ago_ns)
        if superseded > 0:
            self._drop(superseded)

    def clear(self) -> None:
        """Drop all values."""
        self._drop(len(self._stamps))

    def _drop(self, count: int) -> None:
        """Drop so many of the oldest values."""
        for column in (self._stamps, self._values, self._received, self._asked):
            del column[:count]


@dataclass(frozen=True)
class StreamSpec:
    """What the alignment needs to know of a stream.

    Attributes:
        name: Unique among the streams; the topic.
        width: Length of its vectors.
        max_age_ns: Older values count as missing; ``None`` for a latched stream.
        ago_ns: How long before the tick its older values were held, ascending; each counts as
            missing if it was too old then.
    """

    name: str
    width: int
    max_age_ns: int | None
    ago_ns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Observation:
    """What was known at a tick.

    Attributes:
        values: The observation vector, shape (O,), or ``None`` while a stream is missing.
        missing: Names of the streams that have no value or only one that is too old.
        ages_ns: Age of each stream's newest value at the tick; ``None`` before its first.
        fresh_ns: How long after the tick the first of the values becomes too old; infinite if
            none ever does.
        past_ns: Of those missing that only lack their past: how long ago nothing was known.
    """

    values: NDArray[np.float32] | None
    missing: tuple[str, ...]
    ages_ns: dict[str, int | None]
    fresh_ns: float = math.inf
    past_ns: dict[str, int] = field(default_factory=dict)

    @property
    def is_fresh(self) -> bool:
        """Whether every stream has a fresh value, though perhaps not yet its past."""
        return len(self.missing) == len(self.past_ns)


class Held(Protocol):
    """The recent values of one stream, read as a `HoldBuffer`."""

    def at(
        self, now_ns: int, max_age_ns: int | None = None, steady_ns: int | None = None
    ) -> NDArray[np.float64] | None:
        """See `HoldBuffer.at`."""

    def age_ns(self, now_ns: int, steady_ns: int | None = None) -> int | None:
        """See `HoldBuffer.age_ns`."""

    def forget_before(self, now_ns: int) -> None:
        """See `HoldBuffer.forget_before`."""

    def clear(self) -> None:
        """See `HoldBuffer.clear`."""


class Previous(Protocol):
    """What was commanded in the last control periods."""

    def at(self, now_ns: int) -> tuple[NDArray[np.float64] | None, int]:
        """Return the last commands, or how long ago the first period without one began."""

    def begin(self, now_ns: int) -> None:
        """Forget the commands of before ``now_ns``, and those of another clock."""


class ObservationBuilder:
    """Concatenates the streams' held values into the observation vector.

    Args:
        streams: The streams in the vector's order.
        from_first: Positions in the vector of the numbers that are less their first value.
        filled_elsewhere: What holds the values of streams that are not pushed here.
        previous: What was commanded, as the vector's last part; ``None`` where it is none.
    """

    def __init__(
        self,
        streams: Sequence[StreamSpec],
        from_first: Sequence[int] = (),
        filled_elsewhere: Mapping[str, Held] = MappingProxyType({}),
        previous: Previous | None = None,
    ) -> None:
        self._streams = tuple(streams)
        self._pushed = {
            stream.name: HoldBuffer(MAX_PAST_VALUES) if stream.ago_ns else HoldBuffer()
            for stream in streams
            if stream.name not in filled_elsewhere
        }
        self._buffers: dict[str, Held] = {**self._pushed, **filled_elsewhere}
        self._from_first = list(from_first)
        self._origin: NDArray[np.float64] | None = None
        self._previous = previous
        self._began_ns: int | None = BEGINNING_NS

    def begin_episode(self) -> None:
        """Let the next values that are known be the first, without anything before them."""
        self._origin = self._began_ns = None

    def push(
        self,
        stream: str,
        stamp_ns: int,
        value: NDArray[np.float64],
        received_ns: int | None = None,
    ) -> None:
        """Add a value of ``stream``, shape (width,); see `HoldBuffer.push`."""
        self._pushed[stream].push(stamp_ns, value, received_ns)

    def at(self, now_ns: int, steady_ns: int | None = None) -> Observation:
        """Return what is known at ``now_ns``; later calls must not go back in time.

        The values are rounded to float32 here and nowhere else.

        Args:
            now_ns: The tick.
            steady_ns: The tick on the steady clock of `push`, see `HoldBuffer.age_ns`.
        """
        held: list[NDArray[np.float64]] = []
        missing: list[str] = []
        ages_ns: dict[str, int | None] = {}
        fresh_ns = math.inf
        past_ns: dict[str, int] = {}
        self._note_begin(now_ns)
        for stream in self._streams:
            buffer = self._buffers[stream.name]
            if not stream.ago_ns:
                buffer.forget_before(now_ns)
            age_ns = ages_ns[stream.name] = buffer.age_ns(now_ns, steady_ns)
            if stream.max_age_ns is not None and age_ns is not None:
                fresh_ns = min(fresh_ns, stream.max_age_ns - age_ns)
            value = buffer.at(now_ns, stream.max_age_ns, steady_ns)
            if value is None:
                missing.append(stream.name)
                continue
            held.append(value)
            if stream.ago_ns:
                older, lacks_ns = self._older(stream, now_ns, steady_ns)
                held += older
                past_ns |= {stream.name: lacks_ns} if lacks_ns else {}
        if self._previous is not None:
            commands, lacks_ns = self._previous.at(now_ns)
            held += [] if commands is None else [commands]
            past_ns |= {PREVIOUS_ACTION: lacks_ns} if lacks_ns else {}
        if missing or past_ns:
            return Observation(None, (*missing, *past_ns), ages_ns, past_ns=past_ns)
        if self._from_first:
            held = [self._from_origin(np.concatenate(held))]
        values = np.concatenate(held, dtype=np.float32, casting="same_kind")
        return Observation(values, (), ages_ns, fresh_ns)

    def _note_begin(self, now_ns: int) -> None:
        """Let the episode begin, if none goes on."""
        if self._began_ns is None:
            self._began_ns = now_ns
            if self._previous is not None:
                self._previous.begin(now_ns)

    def _older(
        self, stream: StreamSpec, now_ns: int, steady_ns: int | None
    ) -> tuple[list[NDArray[np.float64]], int]:
        """A stream's older values of this episode; and the first of its ``ago_ns`` without one."""
        buffer, older = self._pushed[stream.name], []
        buffer.note_tick(now_ns)
        buffer.forget_before(now_ns, steady_ns, stream.ago_ns[-1])
        for ago_ns in stream.ago_ns:
            value = buffer.at(now_ns, stream.max_age_ns, steady_ns, ago_ns)
            if value is None or now_ns - ago_ns < (self._began_ns or BEGINNING_NS):
                return [], ago_ns
            older.append(value)
        return older, 0

    def _from_origin(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values, some of them less what they were when the episode began."""
        first = values[self._from_first]
        if self._origin is None:
            self._origin = first
        values[self._from_first] = first - self._origin
        return values

    def clear(self, streams: Iterable[str] | None = None) -> None:
        """Drop what is known of ``streams``; of all by default."""
        for name in self._buffers if streams is None else streams:
            self._buffers[name].clear()


@dataclass(frozen=True)
class _Ranking:
    """Which value is held, when some stamps lie ahead of their arrival or go back.

    Attributes:
        eligible_ns: Time from which on each may be held, ascending; shape (n,).
        leader: Among those eligible up to there, the position of the one that is held.
    """

    eligible_ns: Times
    leader: NDArray[np.intp]


class HeldColumn:
    """The values of one stream in the order of arrival, read by causal zero-order hold.

    Args:
        width: Length of the stream's vectors.
    """

    def __init__(self, width: int) -> None:
        self._arrived = np.empty(0, np.int64)
        self._stamps = np.empty(0, np.int64)
        self._values = np.empty((0, width))
        self._clock = np.empty(0, np.int64)  # how often the stamps' clock had been set back
        self._set_back = np.empty(0, np.int64)  # arrivals at which it was
        self._last_stamp_ns: int | None = None
        self._ended_ns = self._resumed_ns = BEGINNING_NS
        self._ranking: _Ranking | None = None

    def extend(self, arrived_ns: Times, stamps_ns: Times, values: NDArray[np.float64]) -> None:
        """Add values, shape (n, width), that arrived at ascending times, after all earlier ones.

        Args:
            arrived_ns: When they were known, shape (n,).
            stamps_ns: What they are of, shape (n,); in any order.
            values: One row each.
        """
        if not len(arrived_ns):
            return
        first = stamps_ns[0] if self._last_stamp_ns is None else self._last_stamp_ns
        before = np.concatenate([[first], stamps_ns[:-1]])
        jumped = stamps_ns < before - CLOCK_JUMP_NS
        clock = len(self._set_back) + np.cumsum(jumped)
        self._set_back = np.concatenate([self._set_back, arrived_ns[jumped]])
        self._last_stamp_ns = int(stamps_ns[-1])
        new = self._is_new(arrived_ns, stamps_ns, clock)
        self._arrived = np.concatenate([self._arrived, arrived_ns[new]])
        self._stamps = np.concatenate([self._stamps, stamps_ns[new]])
        self._values = np.concatenate([self._values, values[new]])
        self._clock = np.concatenate([self._clock, clock[new]])
        self._ranking = None

    def at(self, ticks_ns: Times, ago_ns: int = 0) -> tuple[NDArray[np.intp], Times]:
        """Find what is held at each tick.

        Args:
            ticks_ns: Shape (m,), any times.
            ago_ns: Find what was held so long before, by what had arrived by then; nothing where
                the clock was set back since.

        Returns:
            Positions for `values`, -1 where nothing is known, and ages in nanoseconds, as they
            were then; (m,) each.
        """
        if not len(self._stamps):
            return np.full(len(ticks_ns), -1), np.zeros(len(ticks_ns), np.int64)
        ranking, then_ns = self._ranked(), ticks_ns - ago_ns
        order = np.searchsorted(ranking.eligible_ns, then_ns, side="right") - 1
        held = np.where(order >= 0, ranking.leader[order], -1)
        if len(self._set_back):
            clock = np.searchsorted(self._set_back, ticks_ns, side="right")
            held = np.where(self._clock[held] == clock, held, -1)
        return held, np.where(held >= 0, then_ns - self._stamps[held], 0)

    def values(self, held: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the values at positions that `at` found, shape (m, width)."""
        return self._values[held]

    def forget_before(self, now_ns: int) -> None:
        """Drop the values that no tick at or after ``now_ns`` can hold."""
        if not len(self._stamps):
            return
        ranking = self._ranked()
        order = int(np.searchsorted(ranking.eligible_ns, now_ns, side="right")) - 1
        if order >= 0:
            leader = ranking.leader[order]
            key = self._clock, self._stamps, np.arange(len(self._stamps))
            ahead = np.maximum(self._arrived, self._stamps) > now_ns
            self._keep(ahead | _at_least(key, leader))

    def forget_until(self, ended_ns: int) -> None:
        """Drop, now and later, what arrived or was stamped at or before ``ended_ns``.

        Stamps of a clock that was set back after it are not compared with it.
        """
        self._ended_ns = ended_ns
        self._keep(self._is_new(self._arrived, self._stamps, self._clock))

    def forget_arrivals_before(self, resumed_ns: int) -> None:
        """Drop, now and later, what arrived before ``resumed_ns``, whatever its stamp."""
        self._resumed_ns = resumed_ns
        self._keep(self._is_new(self._arrived, self._stamps, self._clock))

    def _is_new(
        self, arrived_ns: Times, stamps_ns: Times, clock: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        ended_clock = np.searchsorted(self._set_back, self._ended_ns, side="right")
        is_new: NDArray[np.bool_] = (arrived_ns > self._ended_ns) & (
            (stamps_ns > self._ended_ns) | (clock > ended_clock)
        )
        return is_new & (arrived_ns >= self._resumed_ns)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        if not kept.all():
            self._arrived, self._stamps = self._arrived[kept], self._stamps[kept]
            self._values, self._clock = self._values[kept], self._clock[kept]
            self._ranking = None

    def _ranked(self) -> _Ranking:
        if self._ranking is None:
            self._ranking = _rank(self._arrived, self._stamps, self._clock)
        return self._ranking


def _rank(arrived_ns: Times, stamps_ns: Times, clock: NDArray[np.int64]) -> _Ranking:
    eligible_ns = np.maximum(arrived_ns, stamps_ns)
    positions = np.arange(len(stamps_ns))
    if (np.diff(stamps_ns) >= 0).all():
        return _Ranking(eligible_ns, positions)
    # Of those that are eligible, the newest stamp of the latest clock is held; of equal ones
    # the last that arrived.
    by_rank = np.lexsort((positions, stamps_ns, clock))
    rank = np.empty_like(by_rank)
    rank[by_rank] = positions
    order = np.argsort(eligible_ns, kind="stable")
    return _Ranking(eligible_ns[order], by_rank[np.maximum.accumulate(rank[order])])


def _at_least(
    key: tuple[NDArray[np.int64], Times, NDArray[np.intp]], leader: np.intp
) -> NDArray[np.bool_]:
    """Which positions rank as high as ``leader`` or higher."""
    clock, stamps, positions = key
    same = clock == clock[leader]
    newer = (stamps > stamps[leader]) | ((stamps == stamps[leader]) & (positions >= leader))
    at_least: NDArray[np.bool_] = (clock > clock[leader]) | (same & newer)
    return at_least
