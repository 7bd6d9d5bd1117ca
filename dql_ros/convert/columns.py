"""What arrived on a topic, as columns: commands, signals, and what is still out of order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.streams import BEGINNING_NS

Times = NDArray[np.int64]
Rows = NDArray[Any]
_STEP = 4096
_LARGEST = float(np.finfo(np.float32).max)


class Backlog:
    """Messages that are read, of which earlier ones may still come."""

    def __init__(self) -> None:
        self._arrived: list[Times] = []
        self._columns: list[Sequence[Rows]] = []

    def push(self, arrived_ns: Times, *columns: Rows) -> None:
        """Add messages, one row of each column for each; shape (n, ...)."""
        if len(arrived_ns):
            self._arrived.append(arrived_ns)
            self._columns.append(columns)

    def release(self, until_ns: int) -> tuple[Rows, ...] | None:
        """Take out what arrived before ``until_ns``: times, then the columns, in that order.

        Messages of equal times keep the order in which they were pushed.
        """
        if not self._arrived:
            return None
        arrived = np.concatenate(self._arrived)
        columns = [np.concatenate(parts) for parts in zip(*self._columns, strict=True)]
        if (np.diff(arrived) < 0).any():
            order = np.argsort(arrived, kind="stable")
            arrived, columns = arrived[order], [column[order] for column in columns]
        count = int(np.searchsorted(arrived, until_ns, side="left"))
        self._arrived.clear()
        self._columns.clear()
        self.push(arrived[count:], *(column[count:] for column in columns))
        return (arrived[:count], *(column[:count] for column in columns)) if count else None


class TimedColumn:
    """The commands or signals of one topic, in the order of their times.

    Args:
        shape: Of one value: ``(width,)`` for a command, ``()`` for a signal.
    """

    def __init__(self, *shape: int) -> None:
        self.times_ns: Times = np.empty(0, np.int64)
        self.values: NDArray[np.float64] = np.empty((0, *shape))
        self._ended = np.empty(0, bool)
        self._different_ns: Times | None = None

    def extend(
        self,
        times_ns: Times,
        values: NDArray[np.float64],
        ended: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add values at their times.

        Args:
            times_ns: Shape (n,).
            values: Shape (n, *shape).
            ended: Which of them say that from their times on there is no value, shape (n,);
                by default none.
        """
        self.times_ns = np.concatenate([self.times_ns, times_ns])
        self.values = np.concatenate([self.values, values])
        ended = np.zeros(len(times_ns), bool) if ended is None else ended
        self._ended = np.concatenate([self._ended, ended])
        if (np.diff(self.times_ns) < 0).any():  # header stamps need not come in order
            order = np.argsort(self.times_ns, kind="stable")
            self.times_ns, self.values = self.times_ns[order], self.values[order]
            self._ended = self._ended[order]
        self._different_ns = None

    @property
    def different_times_ns(self) -> Times:
        """The times, ascending, each once."""
        if self._different_ns is None:
            self._different_ns = different(self.times_ns)
        return self._different_ns

    def first_in(self, starts_ns: Times, ends_ns: Times) -> tuple[NDArray[np.intp], Times]:
        """First value in each [start, end), else the one held from before; see `held_at`.

        Its age is 0 where it came in the interval.
        """
        index = np.searchsorted(self.times_ns, starts_ns, side="left")
        padded = np.append(self.times_ns, np.iinfo(np.int64).max)
        fresh = padded[index] < ends_ns
        held = index - 1
        age = np.where(held >= 0, starts_ns - padded[held], 0)
        return self._in_force(np.where(fresh, index, held)), np.where(fresh, 0, age)

    def held_at(self, starts_ns: Times) -> tuple[NDArray[np.intp], Times]:
        """Newest value at or before each start.

        Returns:
            Positions in `values`, -1 where there is none, and ages in nanoseconds; (m,) each.
        """
        held = np.searchsorted(self.times_ns, starts_ns, side="right") - 1
        if not len(self.times_ns):
            return held, np.zeros(len(starts_ns), np.int64)
        age = np.where(held >= 0, starts_ns - self.times_ns[held], 0)
        return self._in_force(held), age

    def after(self, starts_ns: Times, ends_ns: Times) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Range of positions in each (start, end]: from the first to the second."""
        return (
            np.searchsorted(self.times_ns, starts_ns, side="right"),
            np.searchsorted(self.times_ns, ends_ns, side="right"),
        )

    def next_raised(self, after_ns: int) -> int | None:
        """Time of the first value after ``after_ns`` that is not 0."""
        first = int(np.searchsorted(self.times_ns, after_ns, side="right"))
        while first < len(self.times_ns):
            raised = np.flatnonzero(self.values[first : first + _STEP])
            if len(raised):
                return int(self.times_ns[first + int(raised[0])])
            first += _STEP
        return None

    def within(
        self, starts_ns: Times, ends_ns: Times
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Range of positions in each [start, end)."""
        return (
            np.searchsorted(self.times_ns, starts_ns, side="left"),
            np.searchsorted(self.times_ns, ends_ns, side="left"),
        )

    def forget_before(self, time_ns: int) -> None:
        """Drop all but the last of the values from before ``time_ns``."""
        self._drop(int(np.searchsorted(self.times_ns, time_ns, side="left")) - 1)

    def forget_until(self, ended_ns: int) -> None:
        """Drop what is known of the time up to ``ended_ns``."""
        self._drop(int(np.searchsorted(self.times_ns, ended_ns, side="right")))

    def _in_force(self, positions: NDArray[np.intp]) -> NDArray[np.intp]:
        """The positions of values, -1 for those that say that there is none."""
        if not self._ended.any():
            return positions
        return np.where(self._ended[positions], -1, positions)

    def clear(self) -> None:
        """Drop all."""
        self._drop(len(self.times_ns))

    def _drop(self, count: int) -> None:
        if count > 0:
            self.times_ns, self.values = self.times_ns[count:], self.values[count:]
            self._ended = self._ended[count:]
            self._different_ns = None


def different(*ascending_ns: Times) -> Times:
    """Return the times of columns that ascend, each once, ascending."""
    times_ns = np.concatenate(ascending_ns)
    times_ns.sort(kind="stable")  # which merges them
    is_new: NDArray[np.bool_] = np.diff(times_ns, prepend=BEGINNING_NS) != 0
    return times_ns[is_new]


def are_numbers(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values the dataset's float32 can hold: neither NaN nor infinite nor beyond it."""
    numbers: NDArray[np.bool_] = np.abs(values) <= _LARGEST
    return numbers


def total(values: NDArray[np.float64], first: NDArray[np.intp], end: NDArray[np.intp]) -> Rows:
    """Sum of ``values[first:end]`` for each pair, each in its own order; 0 for an empty one."""
    padded = np.append(values, 0.0)
    bounds = np.stack([first, end], axis=1).ravel()
    sums: Rows = np.add.reduceat(padded, bounds)[::2]
    return np.where(end > first, sums, 0.0)
