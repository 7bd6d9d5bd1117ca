"""Prints, as JSON, which ROS 2 this Python finds; run by `dql doctor` in a process of its own."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import rclpy
from rclpy.utilities import get_rmw_implementation_identifier

# Interfaces that the nodes import, or that contracts usually name.
INTERFACES = (
    "action_msgs.srv",
    "builtin_interfaces.msg",
    "diagnostic_msgs.msg",
    "geometry_msgs.msg",
    "lifecycle_msgs.srv",
    "nav_msgs.msg",
    "rcl_interfaces.msg",
    "rosgraph_msgs.msg",
    "sensor_msgs.msg",
    "std_msgs.msg",
    "std_srvs.srv",
    "trajectory_msgs.msg",
)


def describe() -> dict[str, Any]:
    """Return what there is."""
    return {
        "rclpy": _version(),
        "place": str(Path(rclpy.__file__).parents[1]),
        "distro": _distro(),
        "rmw": get_rmw_implementation_identifier(),
        "events_executor": not _lacks("rclpy.experimental.events_executor"),
        "launch": not _lacks("launch_ros"),
        "needed": len(INTERFACES),
        "missing": [name.split(".")[0] for name in INTERFACES if _lacks(name)],
    }


def _version() -> str:
    try:
        return importlib.metadata.version("rclpy")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _distro() -> str:
    """The sourced distribution, or that of the wheels."""
    wheels = (
        re.fullmatch(r"ros-([a-z]+)-rclpy", str(distribution.metadata["Name"]))
        for distribution in importlib.metadata.distributions()
    )
    named = [found[1] for found in wheels if found]
    return os.environ.get("ROS_DISTRO", "") or (named[0] if named else "")


def _lacks(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return True
    return False


def main() -> None:
    """Print it on one line."""
    sys.stdout.write(json.dumps(describe()) + "\n")


if __name__ == "__main__":
    main()
