"""Lets a process's threads run before those of other programs, where that is permitted.

As ros2_control's controller manager does by its parameter ``thread_priority``: without it a thread
that is due waits for a core for as long as the scheduler gives others, which is milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_OWN_THREADS = Path("/proc/self/task")

REMEDY = (
    "allow the user a real-time priority ('USER - rtprio 98' in /etc/security/limits.conf, then "
    "log in again), or the container ('--cap-add SYS_NICE')"
)


def raise_priority_of_all_threads(priority: int) -> bool:
    """Schedule all threads of this process by SCHED_FIFO; those they start inherit it.

    Args:
        priority: From 1 to 99, see sched(7).

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
