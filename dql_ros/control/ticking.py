"""When a control loop ticks: at fixed deadlines in real time, once for each instant in lockstep.

Threads may run before those of other programs, as ros2_control's controller manager does by its
parameter ``thread_priority``: without it a thread that is due waits for a core for as long as the
scheduler gives others, which is milliseconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from pathlib import Path

# A simulator that asks again sooner than this after an answer has only not read it yet.
REPEAT_AFTER_NS = 250_000_000
_OWN_THREADS = Path("/proc/self/task")
REMEDY = (
    "allow the user a real-time priority ('USER - rtprio 98' in /etc/security/limits.conf, then "
    "log in again), or the container ('--cap-add SYS_NICE')"
)


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
        """Prepare to call ``tick`` each period on a thread that calls ``prepare_thread`` first."""
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


class Answer(Enum):
    """What to do about an arrival."""

    NOTHING = "nothing"
    ACT = "act"
    REPEAT = "repeat"


class LockstepTrigger:
    """Turns arriving observations into ticks.

    A tick is due when every stream has reached a stamp that was not answered yet. Where a
    simulator began anew, every stream must have gone back: one alone is late. A simulator that
    missed the answer sends the same stamps again; then the last command is sent again, so that it
    is never computed twice.

    Attributes:
        streams: What is waited for.
    """

    def __init__(self, streams: Iterable[str], repeat_after_ns: int = REPEAT_AFTER_NS) -> None:
        """Wait for all of ``streams``; repeat no answer younger than ``repeat_after_ns``."""
        self.streams = frozenset(streams)
        self._newest_ns: dict[str, int | None] = dict.fromkeys(self.streams)
        self._repeat_after_ns = repeat_after_ns
        self._answered_stamp_ns: int | None = None
        self._answered_at_ns = 0

    def arrived(self, stream: str, stamp_ns: int, steady_ns: int) -> tuple[Answer, int]:
        """Take note of a message.

        Args:
            stream: Name of its stream.
            stamp_ns: Its header's stamp in simulated nanoseconds.
            steady_ns: Now, on a clock of the process that always advances.

        Returns:
            What to do, and for which tick: the stamp that all streams have reached.
        """
        self._newest_ns[stream] = stamp_ns
        stamps = [stamp for stamp in self._newest_ns.values() if stamp is not None]
        if len(stamps) < len(self._newest_ns):
            return Answer.NOTHING, stamp_ns
        reached_ns, answered_ns = min(stamps), self._answered_stamp_ns
        if answered_ns is None or reached_ns > answered_ns or max(stamps) < answered_ns:
            return Answer.ACT, reached_ns
        if reached_ns < answered_ns:
            return Answer.NOTHING, reached_ns
        asked_again = steady_ns - self._answered_at_ns >= self._repeat_after_ns
        # While the streams of a new instant come in, the slowest still shows the answered one.
        in_step = reached_ns == max(stamps)
        return Answer.REPEAT if asked_again and in_step else Answer.NOTHING, reached_ns

    def answered(self, stamp_ns: int, steady_ns: int) -> None:
        """Take note that the command for ``stamp_ns`` went out at ``steady_ns``."""
        self._answered_stamp_ns = stamp_ns
        self._answered_at_ns = steady_ns

    def clear(self) -> None:
        """Forget everything, as before a new run."""
        self._newest_ns = dict.fromkeys(self._newest_ns)
        self._answered_stamp_ns = None


def raise_priority_of_all_threads(priority: int) -> bool:
    """Schedule all threads of this process by SCHED_FIFO; ``priority`` is 1 to 99, see sched(7).

    Returns:
        Whether it is permitted.
    """
    return _raise_priority(priority, (int(path.name) for path in _OWN_THREADS.iterdir()))


def raise_priority_of_this_thread(priority: int) -> bool:
    """As `raise_priority_of_all_threads`, for the calling thread alone."""
    return _raise_priority(priority, (0,))


def lower_priority_of_this_thread() -> None:
    """Schedule the calling thread and those it starts below the process's others.

    A thread of a real-time priority that computes for ever would keep others of the same priority
    from a core for ever. With a normal priority the scheduler is fair, and nothing is changed.
    """
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK not in {os.SCHED_FIFO, os.SCHED_RR}:
        return
    lower = os.sched_getparam(0).sched_priority - 1
    policy = os.SCHED_FIFO if lower > 0 else os.SCHED_OTHER
    os.sched_setscheduler(0, policy, os.sched_param(lower))


def _raise_priority(priority: int, threads: Iterable[int]) -> bool:
    for thread in threads:
        try:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
        except ProcessLookupError:
            continue  # it has ended meanwhile
        except PermissionError:
            return False
    return True
