"""All checks of a machine, in the order in which they build on each other.

Python and its libraries, environment variables, the processor and how late it wakes a thread, and
the GPU; those of ROS 2 itself are in `dql_ros.tools.doctor.ros`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dql_core.errors import ConfigError
from dql_ros.control.ticking import REMEDY, raise_priority_of_this_thread
from dql_ros.processes import SAFE_DOMAINS
from dql_ros.sros2 import (
    ENABLE,
    KEYSTORE,
    STRATEGY,
    require_valid_settings,
    settings_warning,
)
from dql_ros.tools.doctor.finding import (
    Finding,
    ProcessError,
    failure,
    fine,
    run_python,
    warning,
)
from dql_ros.tools.doctor.ros import check_ros
from dql_ros.transport import PROFILE_VARIABLES

# Humble's to Jazzy's and Kilted's; the wheels of these two exist for the last two.
PYTHONS = ((3, 10), (3, 12))
# docs.ros.org, "Improved Dynamic Discovery".
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
_CPUS = Path("/sys/devices/system/cpu")
PERIOD_NS = 5_000_000  # 200 Hz
TICKS = 400
# A tenth of the period of 100 Hz, and of 20 Hz.
GOOD_MS = 1.0
USABLE_MS = 5.0
_GPU_CODE = """
import json, torch
found = torch.cuda.is_available()
name = torch.cuda.get_device_name(0) if found else ""
print(json.dumps({"name": name, "cuda": torch.version.cuda or ""}))
"""
_NOT_NEEDED = "the CPU will do for policies of the usual size"


@dataclass(frozen=True)
class Library:
    """One library that the project needs.

    Attributes:
        name: What it is imported as.
        minimum: Oldest version that will do; empty for any.
        needed_for: Without it, what does not work.
        extra: The extra that brings it; empty for what a robot needs.
    """

    name: str
    minimum: str
    needed_for: str
    extra: str = ""


LIBRARIES = (
    Library("numpy", "", "everything"),
    Library("onnxruntime", "", "running a policy on the CPU"),
    Library("rosbags", "0.11", "the nodes, and reading bags"),
    Library("mcap", "1.6", "recording and reading bags"),
    Library("torch", "2.5", "training, and running a policy on a GPU", "train"),
    Library("gymnasium", "1.0", "simulation and datasets", "sim"),
    Library("mujoco", "3.2", "simulation", "sim"),
    Library("minari", "0.5.3", "datasets", "convert"),
)

# Imports, because an installed library may be built for another numpy or another Python.
_VERSION_CODE = (
    "import importlib.metadata, json, sys; __import__(sys.argv[1]); "
    "print(json.dumps(importlib.metadata.version(sys.argv[1])))"
)


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Compare the interpreter's ``version`` with those that are supported."""
    text = ".".join(map(str, version))
    if PYTHONS[0] <= version[:2] <= PYTHONS[1]:
        return fine("python", text)
    return failure(
        "python",
        f"{text} is not supported",
        "make the environment again with Python 3.11 or 3.12: make clean setup",
    )


def check_libraries() -> Iterator[Finding]:
    """Import each library in a process of its own and compare its version."""
    return map(_check, LIBRARIES)


def _check(library: Library) -> Finding:
    if library.extra and importlib.util.find_spec(library.name) is None:
        remedy = f"pip install 'dql_ros[{library.extra}]'"
        return fine(library.name, f"not installed; {library.needed_for}: {remedy}")
    complain = warning if library.extra else failure
    package = f"{library.name}>={library.minimum}" if library.minimum else library.name
    try:
        version = str(run_python(["-c", _VERSION_CODE, library.name]))
    except ProcessError as error:
        return complain(
            library.name,
            f"does not load ({error}); needed for {library.needed_for}",
            f"pip install --force-reinstall '{package}'",
        )
    if parts_of(version) < parts_of(library.minimum):
        return complain(
            library.name,
            f"{version} is older than {library.minimum}; needed for {library.needed_for}",
            f"pip install --upgrade '{package}'",
        )
    return fine(library.name, version)


def parts_of(version: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version, as in (2, 5, 1) of ``2.5.1+cpu``."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


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
        return warning(
            check, f"{found}: ticks will be late", "use a machine of at least two cores"
        )
    if load > cores - 1:
        return warning(check, f"{found}: ticks will be late", "end other programs")
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


def check_timing(ticks: int = TICKS) -> Finding:
    """Wake ``ticks`` times at 200 Hz, as the policy node's clock does, and judge the lateness."""
    late_ms = sorted(late_ns / 1e6 for late_ns in lateness_ns(ticks))
    p50, p99, worst = (late_ms[round(q * (len(late_ms) - 1))] for q in (0.5, 0.99, 1.0))
    found = (
        f"a timer wakes up {p50:.2f} ms late (p50), {p99:.2f} ms (p99), {worst:.2f} ms at worst"
    )
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


def check_gpu(device: Path = Path("/dev/nvidia0")) -> Finding:
    """Ask torch, in a process of its own, and compare with what the kernel shows."""
    check, present = "gpu", device.exists()
    try:
        seen = run_python(["-c", _GPU_CODE])
    except ProcessError as error:
        if not present:
            return fine(check, f"none; {_NOT_NEEDED}")
        return warning(
            check,
            f"there is one, but torch does not load ({error})",
            "pip install 'dql_ros[train]'",
        )
    if seen["name"]:
        return fine(check, f"{seen['name']} (CUDA {seen['cuda']})")
    if not present:
        return fine(check, f"none; {_NOT_NEEDED}")
    if not seen["cuda"]:
        return warning(
            check,
            "there is one, but this torch is built for the CPU only",
            "pip install torch from the CUDA index that pytorch.org names",
        )
    return warning(
        check,
        f"there is one, but torch (CUDA {seen['cuda']}) cannot use it",
        "see whether nvidia-smi works, and update the driver",
    )


def check_variables(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Look at those that keep nodes from finding each other if they are wrong."""
    yield _check_domain(environment.get("ROS_DOMAIN_ID", ""))
    yield _check_range(environment)
    yield from _check_profiles(environment)
    yield _check_security(environment)
    if environment.get("ROS_DISCOVERY_SERVER"):
        yield warning(
            "ROS_DISCOVERY_SERVER",
            f"is '{environment['ROS_DISCOVERY_SERVER']}': nodes find each other only while "
            f"this discovery server runs",
            "unset it, unless you run that server",
        )


def _check_domain(value: str) -> Finding:
    check = "ROS_DOMAIN_ID"
    if not value:
        return fine(check, "not set, so 0; give each robot in one network its own")
    if not (value.isdecimal() and int(value) <= 232):
        return failure(check, f"is '{value}', no number from 0 to 232", "export ROS_DOMAIN_ID=0")
    if int(value) not in {0, *SAFE_DOMAINS}:
        return warning(
            check,
            f"is {value}, whose ports Linux also gives to other programs",
            "choose one from 0 to 101 or from 215 to 232",
        )
    return fine(check, value)


def _check_range(environment: Mapping[str, str]) -> Finding:
    check, value = "discovery range", environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    old = environment.get("ROS_LOCALHOST_ONLY", "")
    if old:
        return warning(
            check,
            f"ROS_LOCALHOST_ONLY={old} is deprecated and overrides ROS_AUTOMATIC_DISCOVERY_RANGE",
            "unset ROS_LOCALHOST_ONLY; export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST or SUBNET",
        )
    if not value:
        return fine(check, "not set, so SUBNET: nodes on other machines are found too")
    if value not in RANGES:
        return failure(
            check,
            f"ROS_AUTOMATIC_DISCOVERY_RANGE is '{value}', none of {', '.join(RANGES)}",
            "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST or SUBNET",
        )
    if value == "OFF":
        return warning(
            check,
            "OFF: no node finds any other",
            "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST or SUBNET",
        )
    return fine(check, value)


def _check_security(environment: Mapping[str, str]) -> Finding:
    check = "security"
    try:
        require_valid_settings(environment)
    except ConfigError as error:
        found, _, remedy = str(error).partition(": ")
        return failure(check, found, remedy)
    if doubt := settings_warning(environment):
        return warning(check, doubt, f"export {ENABLE}=true {STRATEGY}=Enforce")
    if environment.get(ENABLE, "") == "true":
        return fine(check, f"SROS 2 is enforced with {environment.get(KEYSTORE, '')}")
    return fine(check, "SROS 2 is off: anyone in this network may command the robot")


def _check_profiles(environment: Mapping[str, str]) -> Iterator[Finding]:
    for variable in PROFILE_VARIABLES:
        value = environment.get(variable, "")
        if value and not Path(value).is_file():
            yield failure(variable, f"names '{value}', which does not exist", f"unset {variable}")
        elif value:
            yield fine(variable, value)


# The load first, before the checks themselves add to it.
CHECKS: tuple[Callable[[], Finding | Iterator[Finding]], ...] = (
    check_load,
    check_python,
    check_libraries,
    check_gpu,
    check_variables,
    check_ros,
    check_governor,
    check_priority,
    check_timing,
)


def run_checks() -> Iterator[Finding]:
    """Yield the findings of all checks, each as soon as it is there."""
    for check in CHECKS:
        found = check()
        yield from (found,) if isinstance(found, Finding) else found
