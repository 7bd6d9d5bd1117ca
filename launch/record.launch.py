"""Record a contract's topics into a bag that 'dql convert' reads.

ros2 launch dql_ros record.launch.py contract:=arm.yaml out:=bags/monday
ros2 launch dql_ros record.launch.py contract:=arm.yaml out:=bags/run autostart:=false
ros2 service call /recorder/start std_srvs/srv/Trigger
"""

from __future__ import annotations

from launch.launch_description import LaunchDescription
from launch_ros.actions import Node

from dql_ros.nodes.launching import Entities, Values, described, node_options
from dql_ros.nodes.parameters import is_true, names, number

ARGUMENTS = {
    "contract": (
        "",
        "Robot contract (yaml) whose topics are recorded: its path, or the name of one of this "
        "package's.",
    ),
    "out": ("recording", "Folder to record into; it must not exist."),
    "topics": ("", "Further topics to record, with commas between them."),
    "autostart": ("true", "Record at once; false: when the service ~/start is called."),
    "max_file_mb": ("", "Begin a new file after this many MB; never by default."),
    "use_sim_time": ("false", "Date the messages by /clock, as a simulation needs it."),
    "namespace": ("", "Namespace of the node and of the contract's relative topics."),
    "params_file": (
        "",
        "Parameters (yaml), keyed '/**' to reach the node; launch arguments override them.",
    ),
    "respawn": (
        "false",
        "Restart the recorder whenever it ends; it continues in a folder with a number.",
    ),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the node is made once these have their values."""
    return described(ARGUMENTS, _nodes)


def _nodes(values: Values) -> Entities:
    options = node_options(
        values,
        executable="recorder_node",
        parameters={
            "contract": values["contract"],
            "out": values["out"],
            "topics": names(values, "topics"),
            "record_at_start": is_true(values, "autostart"),
            "max_file_mb": number(values, "max_file_mb"),
            "when_exists": "number" if is_true(values, "respawn") else "",
            "use_sim_time": is_true(values, "use_sim_time"),
        },
    )
    return [Node(**options)]
