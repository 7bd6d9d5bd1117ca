"""Is ROS 2 there, whole, and can two of its processes talk on this machine?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dql_core.errors import SimulationError
from dql_ros.processes import NodeCommand, NodeProcesses, environment_of, own_domain
from dql_ros.sros2 import explain_refusal
from dql_ros.tools.doctor.finding import (
    Finding,
    ProcessError,
    failure,
    fine,
    run_python,
    warning,
)

INSTALLATION = "dql_ros.nodes.doctor.installation"
ECHO = "dql_ros.nodes.doctor.echo"
# The executor that the nodes use came with this release.
_EVENTS_EXECUTOR = "7.1.4"
_RMW = "rmw_fastrtps_cpp"
# What was run with each distribution: docs/reference/platforms.md.
_TESTED = "jazzy"
_PARTLY_TESTED = {"kilted": "the nodes were tested with it, launch files and SROS 2 were not"}
_READ = {
    "humble": "that nodes import with it was read off its sources; none was run",
    "lyrical": "nothing of this package was run with it",
}
_WHEELS = "pip install 'dql_ros[ros]'"
_SOURCE = f"source /opt/ros/jazzy/setup.bash, or {_WHEELS} (Python 3.11 or 3.12 on x86-64)"
_INSTALL_RMW = f"sudo apt install ros-jazzy-rmw-fastrtps-cpp, or {_WHEELS}"
_SLOW_S = 10.0
_DISCOVERY_TIMEOUT_S = 30.0
# Two processes have to start and load rclpy, on a machine that may be busy.
_START_TIMEOUT_S = 60.0


def check_ros(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Import rclpy and the messages in a process, then let two processes find each other."""
    try:
        installation = run_python(["-m", INSTALLATION], dict(environment))
    except ProcessError as error:
        yield _explain(str(error), environment)
        return
    yield from judge_installation(installation)
    yield check_discovery()


def judge_installation(installation: Mapping[str, Any]) -> Iterator[Finding]:
    """Say which ROS 2 and RMW it is, what is missing, and whether launch files can be started."""
    distro = installation["distro"] or "unknown distribution"
    found = f"{distro}, rclpy {installation['rclpy']} in {installation['place']}"
    if distro in _PARTLY_TESTED:
        yield fine("ros", f"{found}; {_PARTLY_TESTED[distro]}")
    elif distro != _TESTED:
        untested = _READ.get(distro, "no node was run with it")
        yield warning("ros", f"{found}; {untested}", f"the nodes are tested with Jazzy: {_SOURCE}")
    elif not installation["events_executor"]:
        yield warning(
            "ros",
            f"{found}; without EventsExecutor, nodes take twice the CPU",
            f"update to rclpy {_EVENTS_EXECUTOR} or newer (Jazzy)",
        )
    else:
        yield fine("ros", found)
    rmw = str(installation["rmw"])
    if rmw == _RMW:
        yield fine("rmw", rmw)
    else:
        yield warning(
            "rmw",
            f"{rmw}; the timing of this package is measured with {_RMW} only",
            f"export RMW_IMPLEMENTATION={_RMW}",
        )
    if missing := list(installation["missing"]):
        yield failure(
            "messages",
            f"missing: {', '.join(missing)}",
            "sudo apt install ros-jazzy-common-interfaces ros-jazzy-lifecycle-msgs, or " + _WHEELS,
        )
    else:
        yield fine("messages", f"all {installation['needed']} packages")
    # The wheels of ROS 2 come without.
    absent = "not installed; use `dql closed-loop` or `python -m dql_ros.nodes.…` instead"
    yield fine("ros2 launch", "found" if installation["launch"] else absent)


def check_discovery() -> Finding:
    """Start a node that echoes, call it from another process, both on loopback only."""
    check = "discovery"
    try:
        with own_domain() as domain, NodeProcesses(domain) as processes:
            processes.start(NodeCommand(ECHO, "echo"))
            environment = environment_of(domain) | {"ROS_LOG_DIR": str(processes.folder)}
            arguments = ["-m", ECHO, "call", str(_DISCOVERY_TIMEOUT_S)]
            timeout_s = _START_TIMEOUT_S + _DISCOVERY_TIMEOUT_S
            heard = run_python(arguments, environment, timeout_s)
    except (ProcessError, SimulationError, OSError) as error:
        if reason := explain_refusal(str(error)):
            found, _, remedy = reason.partition(": ")
            return failure(check, found, remedy)
        return failure(
            check,
            f"two processes on this machine do not find each other ({error})",
            "allow UDP on the loopback interface 'lo' (multicast or unicast, ports 7400 and up) "
            "and give containers --ipc=host or a /dev/shm of 64 MB",
        )
    found = (
        f"two processes found each other in {heard['found_s']:.1f} s on loopback, "
        f"there and back in {heard['round_trip_ms']:.2f} ms"
    )
    if heard["found_s"] > _SLOW_S:
        return warning(check, found, "see whether a firewall or VPN filters the 'lo' interface")
    return fine(check, found)


def _explain(error: str, environment: Mapping[str, str]) -> Finding:
    """Say why rclpy does not load."""
    if "RMW" in error or "rmw_" in error:
        chosen = environment.get("RMW_IMPLEMENTATION", "")
        remedy = f"install {chosen} or unset RMW_IMPLEMENTATION" if chosen else _INSTALL_RMW
        return failure("ros", error, remedy)
    if (absent := "rclpy is not installed") in error:
        found = "installed, but not sourced in this shell" if Path("/opt/ros").is_dir() else absent
        return failure("ros", found, _SOURCE)
    if "_rclpy_pybind11" in error or "cannot import" in error:
        return failure(
            "ros",
            f"rclpy is built for another Python ({error})",
            "make the environment with the system's Python, or " + _WHEELS,
        )
    return failure("ros", error, _SOURCE)
