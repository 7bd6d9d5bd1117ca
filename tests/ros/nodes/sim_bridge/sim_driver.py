"""A test's stand-in for a policy that drives the demo robot."""

from geometry_msgs.msg import PointStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from dql_ros.codecs import stamp_ns
from dql_ros.nodes.topics import reliable
from tests.ros.nodes.robot import Robot


class Driver:
    """Answers each state of the demo robot once, with a constant command."""

    def __init__(self, robot: Robot, command: tuple[float, float] = (0.5, -0.5)) -> None:
        self.probe = robot.probe
        self.states: list[JointState] = []
        self.targets = robot.probe.collect(PointStamped, "target", latched=True)
        self.answering = True
        self._command = Float64MultiArray(data=command)
        self._answered = -1
        node = robot.probe.node
        node.create_subscription(JointState, "joint_states", self._on_state, reliable(1000))
        self._publisher = node.create_publisher(
            Float64MultiArray, "velocity_controller/commands", reliable(1)
        )

    @property
    def stamps(self) -> list[int]:
        """Stamps of the states received."""
        return [stamp_ns(state) for state in self.states]

    def _on_state(self, state: JointState) -> None:
        self.states.append(state)
        if self.answering and stamp_ns(state) > self._answered:
            self._answered = stamp_ns(state)
            self.send(self._command)

    def send(self, command: Float64MultiArray) -> None:
        """Send a command that nothing asked for."""
        self._publisher.publish(command)
