"""How late does this machine wake a thread that asked for an absolute time?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dql_ros.doctor.finding import Finding, fine, warning

PERIOD_NS = 5_000_000  # 200 Hz
TICKS = 400

# A tenth of the period of 100 Hz, and of 20 Hz.
GOOD_MS = 1.0
USABLE_MS = 5.0


def check_timing(ticks: int = TICKS) -> Finding:
    """Wake ``ticks`` times at 200 Hz, as the policy node's clock does, and judge the lateness."""
    late_ms = sorted(late_ns / 1e6 for late_ns in lateness_ns(ticks))
    p50, p99, worst = (late_ms[round(q * (len(late_ms) - 1))] for q in (0.5, 0.99, 1.0))
    found = f"wakes {p50:.2f} ms late (p50), {p99:.2f} ms (p99), {worst:.2f} ms at worst"
    if p99 <= GOOD_MS:
        return fine("timing", found)
    rate = "100 Hz" if p99 <= USABLE_MS else "20 Hz"
    return warning(
        "timing",
        f"{found}: too much for control at {rate} and more",
        "end other programs, set the performance governor, or use a PREEMPT_RT kernel",
    )


def lateness_ns(
    ticks: int,
    period_ns: int = PERIOD_NS,
    now_ns: Callable[[], int] = time.monotonic_ns,
    wait: Callable[[float], object] | None = None,
) -> list[int]:
    """Wait for ``ticks`` absolute deadlines and return how late each wait ended, in nanoseconds.

    Args:
        ticks: How many.
        period_ns: Distance of the deadlines.
        now_ns: Steady clock.
        wait: Waits for so many seconds.
    """
    wait = threading.Event().wait if wait is None else wait
    late_ns = []
    deadline_ns = now_ns()
    for _ in range(ticks):
        deadline_ns += period_ns
        wait(max(0.0, (deadline_ns - now_ns()) / 1e9))
        late_ns.append(now_ns() - deadline_ns)
        # A long interruption counts once, not for every deadline that it swallowed.
        deadline_ns = max(deadline_ns, now_ns() - period_ns)
    return late_ns
