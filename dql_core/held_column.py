"""The rule of `HoldBuffer` for whole columns of a recording at once.

A control loop asks for one tick at a time and a converter for millions: the same rule, here as
array operations. A test holds the two together, to the bit, on random streams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.streams import CLOCK_JUMP_NS

Times = NDArray[np.int64]

# Before every stamp that a recording can have.
BEGINNING_NS = np.iinfo(np.int64).min


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
        self._ended_ns = BEGINNING_NS
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

    def at(self, ticks_ns: Times) -> tuple[NDArray[np.intp], Times]:
        """Find what is held at each tick.

        Args:
            ticks_ns: Shape (m,), any times.

        Returns:
            Positions for `values`, -1 where nothing is known, and ages in nanoseconds; (m,) each.
        """
        if not len(self._stamps):
            return np.full(len(ticks_ns), -1), np.zeros(len(ticks_ns), np.int64)
        ranking = self._ranked()
        order = np.searchsorted(ranking.eligible_ns, ticks_ns, side="right") - 1
        held = np.where(order >= 0, ranking.leader[order], -1)
        if len(self._set_back):
            clock = np.searchsorted(self._set_back, ticks_ns, side="right")
            held = np.where(self._clock[held] == clock, held, -1)
        return held, np.where(held >= 0, ticks_ns - self._stamps[held], 0)

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

    def _is_new(
        self, arrived_ns: Times, stamps_ns: Times, clock: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        ended_clock = np.searchsorted(self._set_back, self._ended_ns, side="right")
        is_new: NDArray[np.bool_] = (arrived_ns > self._ended_ns) & (
            (stamps_ns > self._ended_ns) | (clock > ended_clock)
        )
        return is_new

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
