"""Is the processor free, does it run at full speed, and may a control loop go first?"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dql_ros.doctor.finding import Finding, fine, warning
from dql_ros.realtime_priority import REMEDY, raise_priority_of_this_thread

_CPUS = Path("/sys/devices/system/cpu")


def check_governor(folder: Path = _CPUS) -> Finding:
    """Read each core's frequency governor: one that saves power adds to every late tick."""
    check = "cpu governor"
    paths = sorted(folder.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    counts = Counter(path.read_text().strip() for path in paths)
    if not counts:
        return fine(check, "none here, as in virtual machines and containers")
    found = ", ".join(f"{name} on {count} cores" for name, count in counts.items())
    if set(counts) == {"performance"}:
        return fine(check, found)
    return warning(check, found, "sudo cpupower frequency-set --governor performance")


def check_load(
    load: float | None = None, cores: int | None = None, *, needed: float = 2.0
) -> Finding:
    """Compare the load of the last minute with the cores that this process may use.

    Args:
        load: Mean number of running processes; measured by default.
        cores: Number of cores; this process's by default.
        needed: Cores that a policy node beside a robot driver keeps busy at most.
    """
    check = "processor"
    load = os.getloadavg()[0] if load is None else load
    cores = len(os.sched_getaffinity(0)) if cores is None else cores
    found = f"{cores} cores, load {load:.1f}"
    if cores < needed:
        return warning(check, found, "use a machine of at least two cores: ticks will be late")
    if load > cores - 1:
        return warning(check, found, "end other programs: ticks will be late")
    return fine(check, found)


def check_priority() -> Finding:
    """Try whether the policy node may let its threads go before other programs."""
    # On a thread of its own, which then ends.
    with ThreadPoolExecutor(1) as pool:
        permitted = pool.submit(raise_priority_of_this_thread, 1).result()
    if permitted:
        return fine("priority", "a real-time priority is permitted")
    return warning(
        "priority", "no real-time priority is permitted: other programs will delay ticks", REMEDY
    )
