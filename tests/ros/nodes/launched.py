"""Launch files as a ROS installation runs them."""

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dql_ros.processes import environment_of
from tests.ros.workspace import Workspace

needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="launch and launch_ros come with a ROS 2 installation only",
)
# What 'ros2 launch' does with a file and its arguments.
_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *pairs = sys.argv[1:]
arguments = [tuple(pair.split(":=")) for pair in pairs]
source = PythonLaunchDescriptionSource(path)
include = IncludeLaunchDescription(source, launch_arguments=arguments)
service = LaunchService()
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


def environment(workspace: Workspace, domain: int, folder: Path) -> dict[str, str]:
    """Return the environment of a launch on a domain of its own, whose logs go to ``folder``."""
    kept = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
    own = {key: environment_of(domain)[key] for key in kept}
    return workspace.environment() | own | {"ROS_LOG_DIR": str(folder / "log")}


def start_launch(
    workspace: Workspace, domain: int, folder: Path, file: str, arguments: Mapping[str, object]
) -> "subprocess.Popen[str]":
    """Start a launch file of the workspace; its output goes to ``folder/said``."""
    command = [sys.executable, "-c", _LAUNCH, str(workspace.share / "launch" / file)]
    command += [f"{name}:={value}" for name, value in arguments.items()]
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            command,
            env=environment(workspace, domain, folder),
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
