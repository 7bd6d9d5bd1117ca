"""A robot of one joint whose topics the test publishes, and a recorder beside it."""

import json
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from dql_ros.nodes.topics import reliable
from dql_ros.processes import NodeProcess
from tests.ros.nodes.robot import Robot

NODE = "recorder"
CONTRACT = """
robot: lever
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    stamp: receive
    max_age_s: 60.0
    fields: [{path: position, joints: [lever], unit: rad}]
action:
  - topic: command
    type: std_msgs/msg/Float64MultiArray
    max_age_s: 60.0
    fields: [{path: data, indices: [0], low: -1.0, high: 1.0}]
episode:
  start: {topic: recorder/episode, type: std_msgs/msg/String, path: data, equals: start}
  terminated: {topic: recorder/episode, type: std_msgs/msg/String, equals: success}
"""


class Lever:
    """Publishes numbered states and commands, and hears what the recorder tells of itself."""

    def __init__(self, robot: Robot, folder: Path) -> None:
        self.robot = robot
        self.contract = folder / "lever.yaml"
        self.contract.write_text(CONTRACT)
        self.bag = folder / "bag"
        self.sent = 0
        node = robot.probe.node
        best_effort = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._state = node.create_publisher(JointState, "joint_states", best_effort)
        self._command = node.create_publisher(Float64MultiArray, "command", reliable(1000))
        self._told: list[dict[str, Any]] = []
        node.create_subscription(String, f"{NODE}/status", self._note, reliable(10, latched=True))

    def record(
        self, module: str = "dql_ros.nodes.recorder_node", **parameters: Any
    ) -> NodeProcess:
        """Start a recorder and wait until it listens."""
        common = {"contract": str(self.contract), "out": str(self.bag)}
        process = self.robot.run(module, NODE, **common, **parameters)
        self.robot.probe.until(self._is_heard, "the recorder")
        return process

    def move(self) -> None:
        """Publish a state and a command, whose numbers count up."""
        self._state.publish(JointState(name=["lever"], position=[float(self.sent)]))
        self._command.publish(Float64MultiArray(data=[0.5]))
        self.sent += 1
        self.robot.probe.spin()

    def move_until(self, condition: Any, what: str) -> Any:
        """Go on publishing until ``condition`` gives something true, and return that."""

        def step() -> Any:
            self.move()
            return condition()

        return self.robot.probe.until(step, what)

    def has_told(self, state: str) -> bool:
        """Whether this is the state that the recorder told last."""
        return bool(self._told) and self._told[-1]["state"] == state

    @property
    def reason(self) -> str:
        """The reason that the recorder told last."""
        return str(self._told[-1]["reason"])

    def _note(self, message: Any) -> None:
        self._told.append(json.loads(message.data))

    def _is_heard(self) -> bool:
        publishers = (self._state, self._command)
        return all(publisher.get_subscription_count() for publisher in publishers)


def finish(robot: Robot, process: NodeProcess) -> None:
    """Tell the recorder to end, and wait until it has."""
    process.send_signal(2)
    robot.probe.until(lambda: process.wait(0.0), "the recording to be finished")
    assert process.exit_code == 0, process.last_words
