"""Start a simulated robot behind a contract; the launch ends when it does.

ros2 launch dql_ros sim.launch.py contract:=scara.yaml
ros2 launch dql_ros sim.launch.py contract:=hopper.yaml env:=Hopper-v5 real_time_factor:=0.5
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dql_ros.launch_values import given, is_true, number

ARGUMENTS = {
    "contract": ("", "Robot contract (yaml)."),
    "env": (
        "",
        "Gymnasium id of the simulated robot, or an MJCF file (xml); the demo's arm by default.",
    ),
    "mode": (
        "real_time",
        "'real_time' steps at the contract's rate, 'lockstep' waits for each command.",
    ),
    "real_time_factor": ("", "Simulated over wall seconds in real time; 1 by default."),
    "recorders": ("0", "How many recorders must listen before the first episode begins."),
    "namespace": ("", "Namespace of the node and of the contract's relative topics."),
    "params_file": (
        "",
        "Parameters (yaml), keyed '/**' to reach the node; arguments given here go first.",
    ),
    "respawn": ("false", "Start the simulation again whenever it ends."),
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
    bridge = Node(
        package="dql_ros",
        executable="sim_bridge_node",
        name="sim_bridge",
        namespace=arguments["namespace"],
        parameters=[
            *files,
            given(
                {
                    "contract": arguments["contract"],
                    "env": arguments["env"],
                    "mode": arguments["mode"],
                    "real_time_factor": number(arguments, "real_time_factor"),
                    "recorders": int(arguments["recorders"]),
                }
            ),
        ],
        arguments=["--ros-args", "--log-level", arguments["log_level"]],
        respawn=respawn,
        respawn_delay=1.0,
        on_exit=None if respawn else _end_launch,
        output="screen",
    )
    return [bridge]


def _end_launch(_event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End the launch with the simulation, unless that is why the simulation has ended."""
    return None if context.is_shutdown else Shutdown(reason="the simulation has ended")
