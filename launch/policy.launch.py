"""Start the policy node, configured and active; with it a simulated robot and a recorder if asked.

ros2 launch dql_ros policy.launch.py contract:=arm.yaml policy:=runs/arm/bundle
ros2 launch dql_ros policy.launch.py contract:=arm.yaml policy:=runs/arm/bundle shadow:=true
ros2 launch dql_ros policy.launch.py contract:=scara.yaml policy:=bundle sim:=true record:=true
"""

from __future__ import annotations

import os
from pathlib import Path

from launch.actions import (
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from dql_ros.nodes.launching import Entities, Values, described, node_options
from dql_ros.nodes.parameters import flag, is_true, number
from dql_ros.sros2 import ENABLE

ARGUMENTS = {
    "contract": ("", "Robot contract (yaml): its path, or the name of one of this package's."),
    "policy": ("", "Folder of the policy bundle."),
    "device": ("", "Where actions are computed: auto, cpu, cuda, cuda:0, …; auto by default."),
    "mode": (
        "real_time",
        "'real_time' ticks at the contract's rate, 'lockstep' answers each simulated state.",
    ),
    "shadow": (
        "",
        "Send commands to ~/shadow/… only, none to the robot, which you drive; false by default.",
    ),
    "sim": ("false", "Start the simulated robot too; the launch ends when it ends."),
    "env": (
        "",
        "Gymnasium id of the simulated robot, or an MJCF file (xml); the demo's arm by default.",
    ),
    "real_time_factor": (
        "",
        "In real time: simulated seconds per wall second, for policy and robot; 1 by default.",
    ),
    "record": ("false", "Record the contract's topics and /diagnostics too."),
    "out": ("recording", "Folder to record into; it must not exist."),
    "namespace": ("", "Namespace of all nodes and of the contract's relative topics."),
    "use_sim_time": ("false", "Take the time from /clock; always so with sim:=true."),
    "params_file": (
        "",
        "Parameters (yaml), keyed '/**' to reach every node; launch arguments override them.",
    ),
    "autostart": (
        "true",
        "Configure and activate the policy node; false: do it with 'ros2 lifecycle'.",
    ),
    "respawn": (
        "false",
        "Restart nodes whenever they end; the policy is configured and activated again.",
    ),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the nodes are made once these have their values."""
    return described(ARGUMENTS, _nodes)


def _nodes(values: Values) -> Entities:
    sim, record, autostart, respawn = (
        is_true(values, name) for name in ("sim", "record", "autostart", "respawn")
    )
    use_sim_time = sim or is_true(values, "use_sim_time")
    # The launch would need an enclave of its own to call the services of the node, and it would
    # ask those of one that has died, which DDS remembers for a while.
    starts_itself = respawn or os.environ.get(ENABLE) == "true"
    options = node_options(
        values,
        executable="policy_node",
        parameters={
            "contract": values["contract"],
            "policy": values["policy"],
            "device": values["device"],
            "mode": values["mode"],
            # A false of ours must not hide a parameter file's true.
            "shadow": flag(values, "shadow"),
            "real_time_factor": number(values, "real_time_factor"),
            "autostart": autostart and starts_itself,
            "recorders": int(record),
            "use_sim_time": use_sim_time,
        },
    )
    policy = Node(**options) if starts_itself else LifecycleNode(**options)
    common = {
        name: values[name]
        for name in ("contract", "namespace", "params_file", "respawn", "log_level")
    }
    bridge = {
        "env": values["env"],
        "mode": values["mode"],
        "real_time_factor": values["real_time_factor"],
        "recorders": str(int(record)),
    }
    recorder = {
        "out": values["out"],
        "topics": "/diagnostics",
        "use_sim_time": str(use_sim_time),
        "autostart": "true",
    }
    return [
        *(_transitions(policy) if autostart and isinstance(policy, LifecycleNode) else []),
        policy,
        *([_included("sim.launch.py", common | bridge)] if sim else []),
        *([_included("record.launch.py", common | recorder)] if record else []),
    ]


def _included(file: str, arguments: dict[str, str]) -> LaunchDescriptionEntity:
    """Return what another launch file beside this one starts."""
    source = PythonLaunchDescriptionSource(str(Path(__file__).with_name(file)))
    return IncludeLaunchDescription(source, launch_arguments=arguments.items())


def _transitions(node: LifecycleNode) -> list[LaunchDescriptionEntity]:
    """Configure ``node`` when its process has started, and activate it.

    Activation that fails, since the robot does not publish its state yet, is tried again; one that
    was undone, by hand or after a fault, is not. A node that cannot be configured never will be,
    since its parameters are what they are: the launch ends.
    """
    configure, activate = (
        EmitEvent(
            event=ChangeState(
                lifecycle_node_matcher=matches_action(node), transition_id=transition
            )
        )
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    )
    handlers = [OnProcessStart(target_action=node, on_start=[configure])]
    for start, goal, entity in (
        ("configuring", "inactive", activate),
        ("activating", "inactive", activate),
        ("configuring", "unconfigured", OpaqueFunction(function=_give_up)),
    ):
        handlers.append(
            OnStateTransition(
                target_lifecycle_node=node, start_state=start, goal_state=goal, entities=[entity]
            )
        )
    return [RegisterEventHandler(handler) for handler in handlers]


def _give_up(_context: LaunchContext) -> None:
    raise RuntimeError("the policy node could not be configured; its last error says why")
