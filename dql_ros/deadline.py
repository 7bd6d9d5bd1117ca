"""Calls a function at a fixed rate on a thread of its own; knows no ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


def steady_ns() -> int:
    """Time in nanoseconds that always goes on, also while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class DeadlineTicker:
    """Ticks at absolute deadlines ``t0 + i * period``, so that lateness does not add up.

    A tick is left out and counted when the previous one still runs at its deadline, or when the
    process was kept from it for half a period: a late command must not be followed by a burst of
    commands. At least half a period lies between a tick that was left waiting and the next.

    Attributes:
        ticks: How many ticks ran.
        missed: How many were left out.
    """

    def __init__(
        self,
        period_ns: int,
        tick: Callable[[], None],
        prepare_thread: Callable[[], object] = lambda: None,
    ) -> None:
        """Prepare to tick.

        Args:
            period_ns: Time between two ticks in nanoseconds of steady time.
            tick: Called at each.
            prepare_thread: Called once on the thread that ticks.
        """
        self.ticks = 0
        self.missed = 0
        self._period_ns = period_ns
        self._tick = tick
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, "tick", initializer=prepare_thread)
        self._outcome: Future[None] | None = None

    def start(self, delay_ns: int = 0) -> None:
        """Begin; the first tick is due after so many nanoseconds."""
        self._outcome = self._pool.submit(self._run, time.monotonic_ns() + delay_ns)

    def stop(self) -> None:
        """End after the running tick, which is waited for."""
        self._stop.set()
        self._pool.shutdown()

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread, if an exception did."""
        ended = self._outcome is not None and self._outcome.done()
        return self._outcome.exception() if ended and self._outcome is not None else None

    def _run(self, deadline_ns: int) -> None:
        while not self._stop.wait(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)):
            if time.monotonic_ns() - deadline_ns > self._period_ns // 2:
                deadline_ns = self._next(deadline_ns, time.monotonic_ns())
                continue
            self._tick()
            self.ticks += 1
            deadline_ns += self._period_ns
            now_ns = time.monotonic_ns()
            if now_ns > deadline_ns:
                deadline_ns = self._next(deadline_ns, now_ns + self._period_ns // 2)

    def _next(self, deadline_ns: int, earliest_ns: int) -> int:
        """Return the first deadline from ``earliest_ns`` on; count those before it as missed."""
        left_out = -((deadline_ns - earliest_ns) // self._period_ns)
        self.missed += left_out
        return deadline_ns + left_out * self._period_ns
