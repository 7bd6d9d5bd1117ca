"""Shadow mode over real topics: a policy looks on while the test drives, and reaches no robot."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from dql_ros.bag.reader import Bag
from dql_ros.contract import load_contract, resolve_topic
from dql_ros.contract.shadow import POLICY_NODE, shadow_streams
from dql_ros.convert.bag_episodes import read_bag_episodes
from dql_ros.convert.recorded_episode import RecordedEpisode
from dql_ros.nodes.topics import reliable, time_message
from dql_ros.processes import NodeProcess, environment_of
from dql_ros.tools.shadow import ShadowSource, read_shadow
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Told, state_of, trigger
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros
CONTRACT = """
robot: pair
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields: [{path: position, joints: [a]}]
action:
  - topic: arm/trajectory
    type: trajectory_msgs/msg/JointTrajectory
    fields:
      - path: points.0.positions
        joints: [a, b]
        names: [first, second]
        unit: rad
        message_unit: deg
        low: -2
        high: 2
  - topic: /cmd_vel
    type: geometry_msgs/msg/Twist
    fields: [{path: linear.x, names: [ahead], low: -2, high: 2}]
on_fault: {command: [0.0, 0.0, -0.5]}
"""
# Of the type that ~/candidates has, too.
ARRAY = """
  - topic: array
    type: std_msgs/msg/Float64MultiArray
    fields: [{path: data, indices: [0], low: -2, high: 2}]
on_fault: {command: [0.0, 0.0, -0.5, 0.0]}
"""
# The robot's topics, of which one follows the namespace and the other does not.
ARM, BASE = "arm/trajectory", "/cmd_vel"
KINDS = {ARM: JointTrajectory, BASE: Twist}
SHADOW = f"/{NODE}/shadow"
MODULE = "tests.ros.nodes.scripted_policy_node"
# What the driver commands: in degrees, and the same in the contract's unit.
DEGREES = {"b": 90.0, "a": -45.0}
DRIVEN = [-np.pi / 4, np.pi / 2, 0.25]
SAFE_AHEAD = -0.5


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Path:
    (tmp_path / "pair.yaml").write_text(CONTRACT)
    return tmp_path / "pair.yaml"


class Driver:
    """Plays the robot and whoever drives it, and looks who can command the robot, all the time.

    Attributes:
        shadow: The messages on the shadow topics, by the topic that they are beside.
        reached: Messages on the robot's topics.
        publishers: The sets of nodes that were seen to publish on them.
    """

    def __init__(self, robot: Robot, *, drives: bool = True, namespace: str = "") -> None:
        self.drives = drives
        self._probe = robot.probe
        node = robot.probe.node
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._topics = {topic: resolve_topic(topic, namespace) for topic in KINDS}
        state = resolve_topic("joint_states", namespace)
        self._state = node.create_publisher(JointState, state, reliable(10))
        self._arm = node.create_publisher(JointTrajectory, self._topics[ARM], reliable(10))
        self._base = node.create_publisher(Twist, BASE, best_effort)
        self.shadow = {
            topic: robot.probe.collect(kind, f"{namespace}{SHADOW}/{topic.lstrip('/')}")
            for topic, kind in KINDS.items()
        }
        self.reached: list[Any] = []
        for topic, kind in KINDS.items():
            node.create_subscription(kind, self._topics[topic], self.reached.append, best_effort)
        self.sent = 0
        self.publishers: set[tuple[str, ...]] = set()

    @property
    def ahead(self) -> list[float]:
        """What the policy would have sent the base so far."""
        return [message.linear.x for message in self.shadow[BASE]]

    def command(self, ahead: float = 0.25) -> None:
        """Command the robot once."""
        point = JointTrajectoryPoint(positions=list(DEGREES.values()))
        self._arm.publish(JointTrajectory(joint_names=list(DEGREES), points=[point]))
        twist = Twist()
        twist.linear.x = ahead
        self._base.publish(twist)
        self.sent += 2

    def look(self) -> None:
        """See who can command the robot now."""
        for topic in self._topics.values():
            found = self._probe.node.get_publishers_info_by_topic(topic)
            self.publishers.add(tuple(sorted(each.node_name for each in found)))

    def step(self, a: float = 0.1) -> None:
        """Show a state, drive and look."""
        message = JointState(name=["a"], position=[a])
        message.header.stamp = time_message(self._probe.node.get_clock().now().nanoseconds)
        self._state.publish(message)
        if self.drives:
            self.command()
        self.look()

    def until(self, condition: Callable[[], Any], what: str, a: float = 0.1) -> Any:
        """Go on until ``condition`` gives something true, and return that."""

        def stepped() -> Any:
            self.step(a)
            return condition()

        return self._probe.until(stepped, what)

    def until_ended(self, process: NodeProcess, a: float = 0.1) -> None:
        """Go on until the process has ended, and a little longer."""
        while not process.wait(0.0):
            self.step(a)
            self._probe.spin()
        for _ in range(20):
            self.look()
            self._probe.spin()

    def require_alone(self) -> None:
        """Check that nobody but the driver ever could, or did, command the robot."""
        assert self.publishers == {("probe",)}
        for _ in range(20):
            self._probe.spin()
        assert len(self.reached) <= self.sent
        values = [
            m.linear.x if isinstance(m, Twist) else m.points[0].positions[0] for m in self.reached
        ]
        assert set(values) <= {0.25, DEGREES["b"]}


def start(robot: Robot, contract: Path, namespace: str = "/", **parameters: Any) -> NodeProcess:
    common: dict[str, Any] = {"contract": str(contract), "autostart": True, "shadow": True}
    return robot.run(MODULE, NODE, namespace, **common | parameters)


def test_the_policy_acts_beside_the_robots_topics_only(robot: Robot, contract: Path) -> None:
    """Running, stopped, paused, deactivated: all of it goes to the shadow topics."""
    process = start(robot, contract)
    driver, told = Driver(robot), Told(robot)
    driver.until(lambda: told.state == "running" and driver.ahead, "the policy to act")
    trajectory = driver.shadow[ARM][-1]
    assert trajectory.joint_names == ["a", "b"]
    np.testing.assert_allclose(trajectory.points[0].positions, np.rad2deg([1.5, 1.5]))
    assert driver.ahead[-1] == scripted.ACTION
    probe = robot.probe
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    button.publish(Bool(data=True))
    driver.until(lambda: told.state == "stopped" and driver.ahead[-1] == SAFE_AHEAD, "the stop")
    button.publish(Bool(data=False))
    driver.until(lambda: trigger(robot, "reset_stop")[0], "the stop to be reset")
    driver.until(lambda: driver.ahead[-1] == scripted.ACTION, "the policy to go on")
    assert trigger(robot, "pause")[0]
    driver.until(lambda: told.state == "paused" and driver.ahead[-1] == SAFE_AHEAD, "the pause")
    assert trigger(robot, "resume")[0]
    driver.until(lambda: driver.ahead[-1] == scripted.ACTION, "the policy to go on")
    answer = probe.begin_transition(NODE, Transition.TRANSITION_DEACTIVATE)
    driver.until(answer.done, "the node to be inactive")
    driver.until(lambda: driver.ahead[-1] == SAFE_AHEAD, "the safe command, beside the robot")
    answer = probe.begin_transition(NODE, Transition.TRANSITION_CLEANUP)
    driver.until(answer.done, "the node to let go of its topics")
    driver.until(lambda: probe.node.count_publishers(f"{SHADOW}/cmd_vel") == 0, "the end")
    process.send_signal(signal.SIGINT)
    driver.until_ended(process)
    driver.require_alone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTSTP])
def test_the_safe_command_of_the_end_goes_beside_the_robot(
    robot: Robot, contract: Path, number: signal.Signals
) -> None:
    process = start(robot, contract)
    driver = Driver(robot)
    driver.until(lambda: scripted.ACTION in driver.ahead, "the policy to act")
    process.send_signal(number)
    driver.until_ended(process)
    assert process.exit_code == 0
    assert driver.ahead[-1] == SAFE_AHEAD
    driver.require_alone()


def test_a_policy_that_crashes_reaches_no_robot(robot: Robot, contract: Path) -> None:
    process = start(robot, contract)
    driver = Driver(robot)
    driver.until(lambda: scripted.ACTION in driver.ahead, "the policy to act")
    driver.until_ended(process, scripted.CRASH)
    assert process.exit_code == 1
    assert driver.ahead[-1] == SAFE_AHEAD
    driver.require_alone()


def test_the_look_at_publishers_sees_a_policy_that_drives(robot: Robot, contract: Path) -> None:
    """Without shadow mode: the node commands, hears no commands, and has no shadow topics."""
    start(robot, contract, shadow=False, on_rival="warn")
    driver, told = Driver(robot), Told(robot)
    driver.until(lambda: told.state == "running", "the policy to act")
    driver.until(lambda: ("policy", "probe") in driver.publishers, "the policy to be seen")
    driver.until(lambda: told.said("has 2 publishers"), "the rival to be named")
    node = robot.probe.node
    for topic in KINDS:
        found = node.get_subscriptions_info_by_topic(topic)
        assert [each.node_name for each in found] == ["probe"]
    names = {name for name, _ in node.get_publisher_names_and_types_by_node(NODE, "/")}
    assert "/cmd_vel" in names
    assert not any("shadow" in name for name in names)
    assert not any("shadow" in key or "difference" in key for key in told.values)


def test_who_drives_is_no_rival_and_agreement_is_in_the_contracts_units(
    robot: Robot, contract: Path
) -> None:
    process = start(robot, contract)
    driver, told = Driver(robot), Told(robot)

    def share(topic: str) -> float:
        return float(told.values.get(f"ticks compared with {topic} (%)", 0.0))

    driver.until(lambda: share("arm/trajectory") > 50 and share("/cmd_vel") > 50, "agreement")
    for name, driven in zip(("first (rad)", "second (rad)", "ahead"), DRIVEN, strict=True):
        apart = abs(scripted.ACTION - driven)
        assert float(told.values[f"mean difference of {name}"]) == pytest.approx(apart, 1e-3)

    def status() -> tuple[str, bytes]:
        newest = told.diagnostics[-1].status[0]
        return newest.message, newest.level

    # Until then a process of this test may have stood still.
    running = "running; shadow mode: the robot is sent nothing", b"\x00"
    driver.until(lambda: status() == running, "nothing to complain of")
    assert not told.said("publishers")
    assert "publishers" not in process.last_words
    assert state_of(robot) == State.PRIMARY_STATE_ACTIVE
    driver.require_alone()


def test_that_nobody_drives_is_told_in_a_line_and_is_no_warning(
    robot: Robot, contract: Path
) -> None:
    start(robot, contract)
    driver, told = Driver(robot, drives=False), Told(robot)
    unheard = "no command was heard on 'arm/trajectory', '/cmd_vel': nothing to compare with"
    shown = f"running; shadow mode: the robot is sent nothing; {unheard}"
    driver.until(lambda: told.said(shown), "word of the silence")
    last, *_ = [array.status[0] for array in told.diagnostics if array.status[0].message == shown]
    assert last.level == b"\x00"
    assert told.values["mean difference of ahead"] == "nothing compared"
    driver.drives = True
    driver.until(lambda: told.values["mean difference of ahead"] == "1.25", "agreement")
    driver.drives = False
    driver.until(lambda: told.said("no command was heard on '/cmd_vel' for "), "silence again")


def test_a_command_that_cannot_be_read_is_told(robot: Robot, contract: Path) -> None:
    process = start(robot, contract)
    driver, told = Driver(robot, drives=False), Told(robot)
    driver.until(lambda: told.state == "running", "the policy to act")

    def is_told() -> bool:
        driver.command(float("nan"))
        return told.said("not compared: /cmd_vel: a command of [nan] is no command")

    driver.until(is_told, "word of the command")
    assert told.diagnostics[-1].status[0].level == b"\x01"
    robot.probe.until(lambda: "a command of [nan]" in process.last_words, "the log to name it")
    assert int(told.values["refused commands of /cmd_vel"]) > 0
    assert int(told.values["heard commands of /cmd_vel"]) == 0


def test_lockstep_has_no_shadow_mode(robot: Robot, contract: Path) -> None:
    process = start(robot, contract, mode="lockstep")
    assert process.wait(30)
    assert process.exit_code == 2
    assert process.last_words == (
        "shadow is true, but mode is 'lockstep', in which the simulator waits for commands that "
        "it is not sent: set mode to 'real_time', or shadow to false"
    )


@pytest.mark.parametrize(
    ("remap", "told"),
    [
        (
            f"{SHADOW}/cmd_vel:=/cmd_vel",
            f"'{SHADOW}/cmd_vel' is remapped to '/cmd_vel', which may command a robot",
        ),
        (
            "~/shadow/arm/trajectory:=/elsewhere",
            f"'{SHADOW}/arm/trajectory' is remapped to '/elsewhere', which may command",
        ),
        (
            "~/candidates:=/array",
            "a remapping leads what this node publishes to '/array', which commands the robot",
        ),
        *(
            (
                f"{topic}:=/array",
                "a remapping leads what this node publishes to '/array', which commands the robot",
            )
            for topic in ("~/status", "/diagnostics", "/rosout", "~/transition_event")
        ),
    ],
)
def test_no_remapping_leads_to_the_robot(
    robot: Robot, contract: Path, tmp_path: Path, remap: str, told: str
) -> None:
    contract.write_text(CONTRACT.partition("on_fault")[0].rstrip() + ARRAY)
    arguments = [sys.executable, "-m", MODULE, "--ros-args", "-r", f"__node:={NODE}", "-r", remap]
    parameters = {"contract": contract, "autostart": "true", "shadow": "true"}
    parameters["candidates_hz"] = "10.0"
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={value}"]
    environment = environment_of(robot.domain) | {"ROS_LOG_DIR": str(tmp_path)}
    process = NodeProcess(NODE, arguments, environment)
    try:
        assert process.wait(60)
    finally:
        process.stop()
    assert process.exit_code == 2
    assert process.last_words.startswith(told)
    assert process.last_words.endswith("in shadow mode: leave that remapping out")


def test_a_recording_has_both_and_the_contract_finds_each(
    robot: Robot, contract: Path, tmp_path: Path
) -> None:
    """The recorder needs not be told of shadow topics, in its own namespace."""
    space = "/left"
    recorder = robot.start("recorder", space, contract=str(contract), out=str(tmp_path / "bag"))
    driver = Driver(robot, namespace=space)
    start(robot, contract, space)
    driver.until(lambda: driver.ahead.count(scripted.ACTION) > 20, "the policy to act")
    recorder.send_signal(signal.SIGINT)
    driver.until(lambda: recorder.wait(0.0), "the recording to be finished")
    assert recorder.exit_code == 0, recorder.last_words
    robots = load_contract(contract)
    shadows = shadow_streams(robots.action, resolve_topic(POLICY_NODE, space))
    shadow = robots.model_copy(update={"action": shadows})
    actions: list[Any] = []
    for each in (robots, shadow):
        episodes: list[RecordedEpisode] = []
        with Bag(tmp_path / "bag") as bag:
            read_bag_episodes(bag, each, space, episodes.append)
        actions.append(max((episode.actions for episode in episodes), key=len))
    driven, policys = actions
    assert len(driven) > 10
    assert len(policys) > 10
    np.testing.assert_allclose(driven, np.tile(DRIVEN, (len(driven), 1)))
    np.testing.assert_allclose(policys, scripted.ACTION)
    source = ShadowSource(robots, space, resolve_topic(POLICY_NODE, space), needs_rewards=False)
    with Bag(tmp_path / "bag") as bag:
        read = read_shadow(bag, source)
    both = max(read.episodes, key=lambda each: len(each.episode))
    acted = np.isfinite(both.commands).all(axis=1)
    assert acted.sum() > 10
    np.testing.assert_allclose(both.commands[acted], scripted.ACTION, rtol=1e-6)
    np.testing.assert_allclose(both.episode.actions[acted][0], DRIVEN, rtol=1e-6)
