"""What launch_testing checks of policy.launch.py; run by 'launch_test', not by pytest."""

import unittest
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_testing import post_shutdown_test
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes

_PASSED_ON = ("contract", "policy")


def generate_test_description() -> LaunchDescription:
    """Start policy and simulated robot in real time."""
    file = Path(get_package_share_directory("dql_ros")) / "launch" / "policy.launch.py"
    arguments = {name: LaunchConfiguration(name) for name in _PASSED_ON} | {"sim": "true"}
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(file)), launch_arguments=arguments.items()
    )
    declared = [DeclareLaunchArgument(name, description="As of the file.") for name in _PASSED_ON]
    return LaunchDescription([*declared, include, ReadyToTest()])


class TestWhileItRuns(unittest.TestCase):
    """The processes are up."""

    def test_the_policy_runs(self, proc_output: Any) -> None:
        """It is configured, sees the robot and is active."""
        proc_output.assertWaitFor("[policy]: running", timeout=60, stream="stderr")


@post_shutdown_test()
class TestAfterItsEnd(unittest.TestCase):
    """The processes are gone."""

    def test_every_process_has_ended_well(self, proc_info: Any) -> None:
        """Interrupted, each has done its last acts."""
        assertExitCodes(proc_info)
