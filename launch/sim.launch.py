"""Start a simulated robot behind a contract; the launch ends when it does.

ros2 launch dql_ros sim.launch.py contract:=scara.yaml
ros2 launch dql_ros sim.launch.py contract:=hopper.yaml env:=Hopper-v5 real_time_factor:=0.5
"""

from __future__ import annotations

from launch.actions import Shutdown
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch_ros.actions import Node

from dql_ros.nodes.launching import Entities, Values, described, node_options
from dql_ros.nodes.parameters import is_true, number

ARGUMENTS = {
    "contract": ("", "Robot contract (yaml): its path, or the name of one of this package's."),
    "env": (
        "",
        "Gymnasium id of the simulated robot, or an MJCF file (xml); the demo's arm by default.",
    ),
    "mode": (
        "real_time",
        "'real_time' steps at the contract's rate, 'lockstep' waits for each command.",
    ),
    "real_time_factor": ("", "In real time: simulated seconds per wall second; 1 by default."),
    "recorders": ("0", "Number of recorders that must subscribe before the first episode."),
    "namespace": ("", "Namespace of the node and of the contract's relative topics."),
    "params_file": (
        "",
        "Parameters (yaml), keyed '/**' to reach the node; launch arguments override them.",
    ),
    "respawn": ("false", "Restart the simulation whenever it ends."),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the node is made once these have their values."""
    return described(ARGUMENTS, _nodes)


def _nodes(values: Values) -> Entities:
    options = node_options(
        values,
        executable="sim_bridge_node",
        parameters={
            "contract": values["contract"],
            "env": values["env"],
            "mode": values["mode"],
            "real_time_factor": number(values, "real_time_factor"),
            "recorders": int(values["recorders"]),
        },
    )
    return [Node(**options, on_exit=None if is_true(values, "respawn") else _end_launch)]


def _end_launch(_event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End the launch with the simulation, unless that is why the simulation has ended."""
    return None if context.is_shutdown else Shutdown(reason="the simulation has ended")
