"""The parts of a launch description; needs ROS's launch packages, which no other module does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration

from dql_ros.nodes.parameters import given, is_true

Values = Mapping[str, str]
Entities = list[LaunchDescriptionEntity]


def described(
    arguments: Mapping[str, tuple[str, str]], nodes: Callable[[Values], Entities]
) -> LaunchDescription:
    """Declare arguments (default and description by name), and make the nodes of their values."""

    def make(context: LaunchContext) -> Entities:
        return nodes({name: LaunchConfiguration(name).perform(context) for name in arguments})

    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=make)])


def node_options(values: Values, executable: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a ``Node`` of this package; its name is the executable's.

    With SROS 2 it has the enclave of its full name, as `dql sros2` lists it.

    Args:
        values: Those of the launch arguments ``namespace``, ``params_file``, ``respawn`` and
            ``log_level``, which every launch file has.
        executable: Of this package, such as ``policy_node``.
        parameters: Go before those in the parameter file; empty ones are left to it.
    """
    files = [values["params_file"]] if values["params_file"] else []
    name = executable.removesuffix("_node")
    enclave = f"/{values['namespace']}/{name}".replace("//", "/")
    return {
        "package": "dql_ros",
        "executable": executable,
        "name": name,
        "namespace": values["namespace"],
        "parameters": [*files, given(parameters)],
        "arguments": [
            *("--ros-args", "--log-level", values["log_level"]),
            *("--enclave", enclave),
        ],
        "respawn": is_true(values, "respawn"),
        "respawn_delay": 1.0,
        "output": "screen",
    }
