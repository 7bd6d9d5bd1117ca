"""The commands that robots take, over real topics, in a namespace and under other names."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import Twist, TwistStamped
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Log
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from dql_ros.contract import Contract
from dql_ros.control.settings import LoopSettings
from dql_ros.nodes.control_topics import CommandOutputs
from dql_ros.nodes.topics import QosConflicts, reliable, time_message
from dql_ros.processes import NodeProcess, environment_of
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros
CONTRACT = """
robot: everything
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields: [{path: position, joints: [a]}]
action:
  - topic: array
    type: std_msgs/msg/Float64MultiArray
    fields: [{path: data, indices: [0, 1], low: -2, high: 2}]
  - topic: joints
    type: sensor_msgs/msg/JointState
    frame_id: arm
    fields: [{path: velocity, joints: [b, a], low: -2, high: 2}]
  - topic: trajectory
    type: trajectory_msgs/msg/JointTrajectory
    time_from_start_s: 0.25
    fields:
      - {path: points.0.positions, joints: [a, b], unit: rad, message_unit: deg, low: -2, high: 2}
  - topic: cmd_vel
    type: geometry_msgs/msg/Twist
    fields: [{path: linear.x, low: -1, high: 1}, {path: angular.z, constant: 0.5}]
  - topic: cmd_vel_stamped
    type: geometry_msgs/msg/TwistStamped
    fields: [{path: twist.angular.z, low: -2, high: 2}]
on_fault: {command: [-0.5, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5]}
"""
KINDS = {
    "array": Float64MultiArray,
    "joints": JointState,
    "trajectory": JointTrajectory,
    "cmd_vel": Twist,
    "cmd_vel_stamped": TwistStamped,
}
STAMP_NS = 12_345_678_901


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Path:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    return tmp_path / "contract.yaml"


@pytest.fixture(name="started")
def _started(robot: Robot, contract: Path, tmp_path: Path) -> Iterator[NodeProcess]:
    """A policy node in a namespace; what it hears and one topic of what it says are renamed."""
    parameters = {"contract": contract, "mode": "lockstep", "autostart": "true"}
    remaps = {
        "__ns": "/left",
        "joint_states": "/robot/states",
        "cmd_vel": "base/cmd_vel",
    }
    arguments = [sys.executable, "-m", "tests.ros.nodes.scripted_policy_node", "--ros-args"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={value}"]
    for name, value in remaps.items():
        arguments += ["-r", f"{name}:={value}"]
    environment = environment_of(robot.domain) | {"ROS_LOG_DIR": str(tmp_path)}
    process = NodeProcess("policy", arguments, environment)
    yield process
    process.stop()


def test_every_kind_of_command_arrives_as_the_contract_says(
    robot: Robot, started: NodeProcess
) -> None:
    probe = robot.probe
    names = {name: f"/left/{name}" for name in KINDS} | {"cmd_vel": "/left/base/cmd_vel"}
    heard: dict[str, list[Any]] = {
        name: probe.collect(kind, names[name]) for name, kind in KINDS.items()
    }
    states = probe.node.create_publisher(JointState, "/robot/states", reliable(10))

    def answered() -> bool:
        assert started.exit_code is None, started.last_words
        state = JointState(name=["a"], position=[0.25])
        state.header.stamp = time_message(STAMP_NS)
        states.publish(state)
        return all(heard.values())

    probe.until(answered, "all commands")
    array, joints, trajectory, twist, stamped = (heard[name][0] for name in KINDS)
    action = scripted.ACTION
    assert list(array.data) == [action, action]
    assert joints.name == ["b", "a"]
    assert list(joints.velocity) == [action, action]
    assert (joints.header.frame_id, joints.header.stamp) == ("arm", time_message(STAMP_NS))
    assert list(joints.position) == []
    (point,) = trajectory.points
    assert trajectory.joint_names == ["a", "b"]
    assert list(point.positions) == pytest.approx([85.94366926962348] * 2)
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 250_000_000)
    assert (twist.linear.x, twist.angular.z) == (1.0, 0.5)
    assert stamped.twist.angular.z == action
    assert stamped.header.stamp == time_message(STAMP_NS)
    assert stamped.header.frame_id == "base_link"
    started.send_signal(signal.SIGINT)
    probe.until(lambda: started.wait(0.0), "the end")
    probe.until(lambda: list(heard["array"][-1].data) == [-0.5, -0.5], "the safe command")
    probe.until(lambda: heard["cmd_vel_stamped"][-1].twist.angular.z == -0.5, "all of it")
    assert list(heard["joints"][-1].velocity) == [-0.5, -0.5]
    assert heard["cmd_vel"][-1].linear.x == -0.5
    # Constants stay what they are.
    assert heard["cmd_vel"][-1].angular.z == 0.5


@pytest.mark.parametrize(
    ("msgtype", "low", "words"),
    [
        ("std_msgs/msg/String", 0, "odd: 'data' is a str, not one number"),
        ("std_msgs/msg/UInt8", -1, "odd: 'data' is a uint8, which has 0 to 255, and gets down to"),
    ],
)
def test_a_command_that_cannot_be_sent_is_refused_before_anything_is(
    robot: Robot, tmp_path: Path, msgtype: str, low: int, words: str
) -> None:
    field = {"path": "data", "low": low, "high": 1}
    action = {"topic": "odd", "type": msgtype, "fields": [field]}
    document = yaml.safe_load(CONTRACT) | {"action": [action], "on_fault": {}}
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(document))
    process = robot.run("tests.ros.nodes.scripted_policy_node", NODE, contract=str(path))
    assert not robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    robot.probe.until(lambda: words in process.last_words, "the reason")


def test_what_a_command_leaves_out_is_told(robot: Robot, tmp_path: Path) -> None:
    field = {"path": "scale.x", "low": -1, "high": 1}
    action = {"topic": "odd", "type": "visualization_msgs/msg/Marker", "fields": [field]}
    document = yaml.safe_load(CONTRACT) | {"action": [action], "on_fault": {}}
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(document))
    told: list[str] = []

    def hear(log: Log) -> None:
        told.append(log.msg)

    robot.probe.node.create_subscription(Log, "/rosout", hear, reliable(100, latched=True))
    robot.run("tests.ros.nodes.scripted_policy_node", NODE, contract=str(path))
    assert robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    words = "odd: each command has nothing in 'ns', 'id', 'type', 'action', "
    robot.probe.until(lambda: any(words in each for each in told), "the warning")


def test_what_one_topic_raises_keeps_the_safe_command_from_no_other(robot: Robot) -> None:
    field = {"path": "data", "indices": [0], "low": -9, "high": 9}
    streams = [
        {"topic": topic, "type": "std_msgs/msg/Float64MultiArray", "fields": [field | names]}
        for topic, names in (("broken", {"names": ["one"]}), ("whole", {"names": ["two"]}))
    ]
    document = yaml.safe_load(CONTRACT) | {"action": streams, "on_fault": {"command": [1, 2]}}
    contract = Contract.model_validate(document)
    node = LifecycleNode(
        "sender", context=robot.probe.node.context, enable_communication_interface=False
    )
    settings = LoopSettings(lockstep=False, seed=0)
    outputs = CommandOutputs(node, contract.action, QosConflicts("sender"), settings)
    node.trigger_configure()
    node.trigger_activate()
    heard = robot.probe.collect(Float64MultiArray, "whole")
    robot.probe.until(lambda: node.count_subscribers("whole"), "the topic to be heard")
    (broken,) = (each for each in node.publishers if each.topic_name == "/broken")
    node.destroy_publisher(broken)
    with pytest.raises(rclpy_implementation.InvalidHandle):
        outputs.send(np.array([1, 2], np.float32), lambda: STAMP_NS, is_safe=True)
    robot.probe.until(lambda: [list(each.data) for each in heard] == [[2.0]], "the command")
    assert (outputs.sent, outputs.last_stamp_ns) == (1, STAMP_NS), "others are overtaken by it"
    node.destroy_node()
