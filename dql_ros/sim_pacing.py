"""How well a simulation keeps up with the clock on the wall."""

from __future__ import annotations

from collections import deque

_WINDOW_NS = 5_000_000_000
_TOLERANCE = 0.98


class Pace:
    """Judges the times at which steps were made.

    Simulated time is never hurried after a delay: a step that comes more than a period late has
    lost these periods for good, and they are counted.

    Attributes:
        missed: How many periods were left out since the start.

    Args:
        period_ns: Wall time that a step is to take, in nanoseconds.
        factor: Simulated over wall time that this means.
    """

    def __init__(self, period_ns: int, factor: float) -> None:
        self.missed = 0
        self._period_ns = period_ns
        self._wanted = factor
        self._due_ns: int | None = None
        self._times_ns: deque[int] = deque()

    def stepped(self, steady_ns: int) -> None:
        """Take note of a step at a time of a steady clock."""
        if self._due_ns is None:
            self._due_ns = steady_ns
        late = round((steady_ns - self._due_ns) / self._period_ns)
        self.missed += max(0, late)
        self._due_ns += (1 + max(0, late)) * self._period_ns
        self._times_ns.append(steady_ns)
        while steady_ns - self._times_ns[0] > _WINDOW_NS:
            self._times_ns.popleft()

    def rest(self) -> None:
        """Take note that the simulation stands still on purpose."""
        self._due_ns = None
        self._times_ns.clear()

    @property
    def factor(self) -> float | None:
        """Simulated over wall time in the last seconds; ``None`` before it can be told."""
        if len(self._times_ns) < 2:
            return None
        span_ns = self._times_ns[-1] - self._times_ns[0]
        steps_ns = (len(self._times_ns) - 1) * self._period_ns
        return self._wanted * steps_ns / span_ns if span_ns else None

    @property
    def is_behind(self) -> bool:
        """Whether simulated time has lately run slower than it was to."""
        factor = self.factor
        return factor is not None and factor < _TOLERANCE * self._wanted
