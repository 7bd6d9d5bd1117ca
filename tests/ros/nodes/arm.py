"""The topics of the demo robot's arm as a test plays them, and what a policy node tells."""

import json
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped
from lifecycle_msgs.srv import GetState
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from dql_ros.nodes.topics import reliable, time_message
from tests.ros.nodes.robot import Robot

NODE = "policy"


class Arm:
    """The topics of a SCARA arm, published by the test."""

    def __init__(self, robot: Robot) -> None:
        self._probe = robot.probe
        node = robot.probe.node
        self.commands = robot.probe.collect(Float64MultiArray, "velocity_controller/commands")
        self._state = node.create_publisher(JointState, "joint_states", reliable(10))
        self._target = node.create_publisher(PointStamped, "target", reliable(1, latched=True))

    @property
    def now_ns(self) -> int:
        return int(self._probe.node.get_clock().now().nanoseconds)

    @property
    def last(self) -> list[float]:
        """The last command; none before the first."""
        return list(self.commands[-1].data) if self.commands else []

    def aim(self, stamp_ns: int) -> None:
        """Publish the target once the policy node listens, and wait until it has it."""
        self._probe.until(lambda: self._target.get_subscription_count() > 0, "a listener")
        message = PointStamped()
        message.header.stamp = time_message(stamp_ns)
        message.point.x, message.point.y = 0.26, 0.19
        self._target.publish(message)
        self._probe.until(self._target.wait_for_all_acked, "the target to arrive")

    def show(self, stamp_ns: int, shoulder: float = 0.1, joint: str = "shoulder") -> None:
        """Publish a state."""
        message = JointState(name=["elbow", joint], velocity=[0.0, 0.0])
        message.header.stamp = time_message(stamp_ns)
        message.position = [0.2, shoulder]
        self._state.publish(message)

    def live(
        self, condition: Callable[[], Any], what: str, *, ahead_ns: int = 0, **state: Any
    ) -> Any:
        """Publish states of now until ``condition`` gives something true, and return that."""

        def shown() -> Any:
            self.show(self.now_ns + ahead_ns, **state)
            return condition()

        return self._probe.until(shown, what)

    def answered(self, stamp_ns: int, shoulder: float = 0.1) -> list[float]:
        """Publish a state until there is one more command, and return that."""
        seen = len(self.commands)
        ask_at = 0.0

        def has_answer() -> bool:
            nonlocal ask_at
            if time.monotonic() >= ask_at:
                self.show(stamp_ns, shoulder)
                ask_at = time.monotonic() + 0.1
            return len(self.commands) > seen

        self._probe.until(has_answer, "a command")
        return self.last


class Told:
    """What a control node tells on ``~/status`` and ``/diagnostics``."""

    def __init__(self, robot: Robot) -> None:
        self._probe = robot.probe
        self.statuses = robot.probe.collect(String, f"{NODE}/status", latched=True)
        self.diagnostics = robot.probe.collect(DiagnosticArray, "/diagnostics")

    @property
    def state(self) -> str:
        return str(json.loads(self.statuses[-1].data)["state"]) if self.statuses else ""

    @property
    def reason(self) -> str:
        return str(json.loads(self.statuses[-1].data)["reason"]) if self.statuses else ""

    @property
    def values(self) -> dict[str, str]:
        """The values of the newest diagnostic."""
        newest = self.diagnostics[-1].status[0].values if self.diagnostics else []
        return {pair.key: pair.value for pair in newest}

    def count(self, name: str) -> int:
        """A counter of the newest diagnostic; 0 before the first."""
        return int(self.values.get(name, 0))

    def said(self, words: str) -> bool:
        """Whether any diagnostic so far had these words in its message."""
        return any(words in array.status[0].message for array in self.diagnostics)


def state_of(robot: Robot) -> int:
    """Return the id of the policy node's lifecycle state."""
    response = robot.probe.call(GetState, f"{NODE}/get_state", GetState.Request())
    return int(response.current_state.id)


def trigger(robot: Robot, service: str) -> tuple[bool, str]:
    """Call a ``std_srvs/srv/Trigger`` of the policy node; return success and message."""
    response = robot.probe.call(Trigger, f"{NODE}/{service}", Trigger.Request())
    return bool(response.success), str(response.message)
