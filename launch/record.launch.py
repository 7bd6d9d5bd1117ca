"""Record a contract's topics into a bag that 'dql convert' reads.

ros2 launch dql_ros record.launch.py contract:=arm.yaml out:=bags/monday
ros2 launch dql_ros record.launch.py contract:=arm.yaml out:=bags/run autostart:=false
ros2 service call /recorder/start std_srvs/srv/Trigger
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dql_ros.launch_values import given, is_true, number

ARGUMENTS = {
    "contract": ("", "Robot contract (yaml), whose topics are recorded."),
    "out": ("recording", "Folder to record into; it must not exist."),
    "autostart": ("true", "Record from the beginning; else once the service 'start' is called."),
    "max_file_mb": ("", "Begin another file after so many megabytes; never by default."),
    "use_sim_time": ("false", "Date the messages by /clock, as a simulation needs it."),
    "namespace": ("", "Namespace of the node and of the contract's relative topics."),
    "params_file": (
        "",
        "Parameters (yaml), keyed '/**' to reach the node; arguments given here go first.",
    ),
    "respawn": (
        "false",
        "Start the recorder again whenever it ends; it goes on in a folder with a number.",
    ),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the node is made once these have their values."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    arguments = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    respawn = is_true(arguments, "respawn")
    files = [arguments["params_file"]] if arguments["params_file"] else []
    recorder = Node(
        package="dql_ros",
        executable="recorder_node",
        name="recorder",
        namespace=arguments["namespace"],
        parameters=[
            *files,
            given(
                {
                    "contract": arguments["contract"],
                    "out": arguments["out"],
                    "record_at_start": is_true(arguments, "autostart"),
                    "max_file_mb": number(arguments, "max_file_mb"),
                    "when_exists": "number" if respawn else "",
                    "use_sim_time": is_true(arguments, "use_sim_time"),
                }
            ),
        ],
        arguments=["--ros-args", "--log-level", arguments["log_level"]],
        respawn=respawn,
        respawn_delay=1.0,
        output="screen",
    )
    return [recorder]
