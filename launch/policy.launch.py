"""Start the policy node, configured and active; with it a simulated robot and a recorder if asked.

ros2 launch dql_ros policy.launch.py contract:=arm.yaml policy:=runs/arm/bundle
ros2 launch dql_ros policy.launch.py contract:=scara.yaml policy:=bundle sim:=true record:=true
"""

from __future__ import annotations

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

PACKAGE = "dql_ros"

ARGUMENTS = {
    "contract": ("", "Robot contract (yaml)."),
    "policy": ("", "Folder of the policy bundle."),
    "mode": (
        "",
        "'real_time' ticks at the contract's rate, 'lockstep' answers each simulated state. "
        "Real time by default.",
    ),
    "sim": ("false", "Start the simulated robot too; the launch ends when it does."),
    "env": ("", "Gymnasium id of the simulated robot; the demo's arm by default."),
    "record": ("false", "Record the contract's topics too."),
    "out": ("recording", "Folder to record into; it must not exist."),
    "namespace": ("", "Namespace of all nodes and of the contract's relative topics."),
    "use_sim_time": ("false", "Take the time from /clock; always so with sim:=true."),
    "params_file": (
        "",
        "Parameters (yaml), keyed '/**' to reach every node; arguments given here go first.",
    ),
    "autostart": (
        "true",
        "Configure and activate the policy node; else do it by 'ros2 lifecycle'.",
    ),
    "log_level": ("info", "debug, info, warn, error or fatal."),
}


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the nodes are made once these have their values."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    arguments = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    sim, record, autostart = (_is_true(arguments, key) for key in ("sim", "record", "autostart"))
    use_sim_time = sim or _is_true(arguments, "use_sim_time")
    files = [arguments["params_file"]] if arguments["params_file"] else []
    common = {
        "package": PACKAGE,
        "namespace": arguments["namespace"],
        "arguments": ["--ros-args", "--log-level", arguments["log_level"]],
        "output": "screen",
    }
    policy = LifecycleNode(
        executable="policy_node",
        name="policy",
        parameters=[
            *files,
            _given(
                {
                    "contract": arguments["contract"],
                    "policy": arguments["policy"],
                    "mode": arguments["mode"],
                    "recorders": int(record),
                    "use_sim_time": use_sim_time,
                }
            ),
        ],
        **common,
    )
    bridge = Node(
        executable="sim_bridge_node",
        name="sim_bridge",
        parameters=[
            *files,
            _given(
                {
                    "contract": arguments["contract"],
                    "env": arguments["env"],
                    "mode": arguments["mode"] or "real_time",
                    "recorders": int(record),
                }
            ),
        ],
        on_exit=_end_launch,
        **common,
    )
    recorder = Node(
        executable="recorder_node",
        name="recorder",
        parameters=[
            *files,
            _given(
                {
                    "contract": arguments["contract"],
                    "out": arguments["out"],
                    "use_sim_time": use_sim_time,
                }
            ),
        ],
        **common,
    )
    return [
        *(_transitions(policy) if autostart else []),
        policy,
        *([bridge] if sim else []),
        *([recorder] if record else []),
    ]


def _transitions(node: LifecycleNode) -> list[LaunchDescriptionEntity]:
    """Configure ``node`` when its process has started, activate it when it is configured."""
    configure, activate = (
        EmitEvent(
            event=ChangeState(
                lifecycle_node_matcher=matches_action(node), transition_id=transition
            )
        )
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    )
    started = OnProcessStart(target_action=node, on_start=[configure])
    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[activate],
    )
    return [RegisterEventHandler(started), RegisterEventHandler(configured)]


def _end_launch(_event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End the launch with the simulation, unless that is why the simulation has ended."""
    return None if context.is_shutdown else Shutdown(reason="the simulation has ended")


def _given(parameters: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
    """Leave out what was not given, so that it does not hide what the file says."""
    return {name: value for name, value in parameters.items() if value != ""}


def _is_true(arguments: dict[str, str], name: str) -> bool:
    value = arguments[name].lower()
    if value not in {"true", "false"}:
        raise ValueError(f"launch argument '{name}' is '{arguments[name]}': give true or false")
    return value == "true"
