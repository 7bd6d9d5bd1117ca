"""The stop that latches, and the pause."""

import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from dql_ros.nodes.topics import reliable
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, Told, trigger
from tests.ros.nodes.robot import SAFE, Robot

pytestmark = pytest.mark.ros
ACTION = [scripted.ACTION] * 2
STOPS, REQUESTS = 20, 30
STAMPED = """
robot: cart
rate_hz: 200.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields: [{path: position, joints: [a]}]
action:
  - topic: cmd_vel
    type: geometry_msgs/msg/TwistStamped
    fields: [{path: twist.linear.x, low: -2, high: 2}]
on_fault: {command: [0.125]}
"""
VOLATILE = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
)


def start(robot: Robot, contract: Path, **parameters: Any) -> None:
    robot.run("tests.ros.nodes.scripted_policy_node", NODE, contract=str(contract), **parameters)


@pytest.mark.parametrize("quality", [reliable(1, latched=True), VOLATILE], ids=["latched", "not"])
def test_stop_in_mid_motion_and_reset(robot: Robot, scara: Path, quality: QoSProfile) -> None:
    start(robot, scara, autostart=True)
    probe, arm, told = robot.probe, Arm(robot), Told(robot)
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", quality)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION, "the arm to move")
    probe.until(lambda: button.get_subscription_count() > 0, "the node to listen")
    button.publish(Bool(data=True))
    arm.live(lambda: arm.last == SAFE and told.state == "stopped", "the stop")
    stopped_at = len(arm.commands)
    assert told.reason.startswith("stopped by ~/stop")
    assert trigger(robot, "reset_stop") == (
        False,
        "still stopped: release the stop first, then reset it",
    )
    assert not trigger(robot, "resume")[0]
    button.publish(Bool(data=False))
    # That the button is released is not enough.
    arm.live(lambda: len(arm.commands) >= stopped_at + 5, "more commands")
    assert all(list(command.data) == SAFE for command in arm.commands[stopped_at:])
    probe.until(lambda: trigger(robot, "reset_stop") == (True, "the stop is reset"), "the reset")
    arm.live(lambda: arm.last == ACTION and told.state == "running", "the arm to move again")
    assert trigger(robot, "reset_stop") == (True, "was not stopped")


def test_a_latched_stop_from_before_the_start_holds(robot: Robot, scara: Path) -> None:
    probe, arm, told = robot.probe, Arm(robot), Told(robot)
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    button.publish(Bool(data=True))
    start(robot, scara)
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    probe.until(button.wait_for_all_acked, "the node to hear of it")
    arm.aim(arm.now_ns)
    # Activation waits for states, which come while its service is being called.
    activating = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(activating.done, "the activation")
    assert activating.result().success
    arm.live(lambda: told.state == "stopped" and len(arm.commands) > 5, "the stopped state")
    assert all(list(command.data) == SAFE for command in arm.commands)


def test_an_action_is_held_back_and_a_stop_is_not(robot: Robot, scara: Path) -> None:
    held_s = 0.06  # of a period of 0.1 s
    start(robot, scara, autostart=True, send_after_s=held_s)
    probe, arm, told = robot.probe, Arm(robot), Told(robot)
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    arm.aim(arm.now_ns)
    latency = "state to command p50 (ms)"
    arm.live(lambda: float(told.values.get(latency, 0.0)) > 0, "latencies")
    assert float(told.values[latency]) >= 1000 * held_s
    assert told.count("missed ticks") == 0
    probe.until(lambda: button.get_subscription_count() > 0, "the node to listen")
    button.publish(Bool(data=True))
    arm.live(lambda: arm.last == SAFE and told.state == "stopped", "the stop")
    stopped_at = len(arm.commands)
    arm.live(lambda: len(arm.commands) >= stopped_at + 3, "more commands")
    assert all(list(command.data) == SAFE for command in arm.commands[stopped_at:])


def test_who_ends_the_work_does_not_wait_for_an_action_that_is_held_back(
    robot: Robot, tmp_path: Path
) -> None:
    contract = tmp_path / "contract.yaml"
    text = STAMPED.replace("rate_hz: 200.0", "rate_hz: 0.25")
    contract.write_text(text.replace("JointState\n", "JointState\n    max_age_s: 8.0\n"))
    start(robot, contract, send_after_s=3.8)
    probe = robot.probe
    commands = probe.collect(TwistStamped, "cmd_vel")
    states = probe.node.create_publisher(JointState, "joint_states", reliable(10))

    def told(condition: Callable[[], bool]) -> bool:
        state = JointState(name=["a"], position=[0.25])
        state.header.stamp = probe.node.get_clock().now().to_msg()
        states.publish(state)
        return condition()

    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    activating = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    probe.until(partial(told, activating.done), "the activation")
    held_from = time.monotonic()  # and a twentieth of the period
    probe.until(partial(told, lambda: time.monotonic() > held_from + 0.6), "the first tick")
    assert probe.change_state(NODE, Transition.TRANSITION_DEACTIVATE)
    probe.until(lambda: commands, "the safe command")
    assert time.monotonic() < held_from + 3.0
    assert [each.twist.linear.x for each in commands] == SAFE[:1]


def test_pause_and_resume(robot: Robot, scara: Path) -> None:
    start(robot, scara, autostart=True)
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION, "the arm to move")
    assert trigger(robot, "pause") == (True, "paused: to continue, call ~/resume")
    arm.live(lambda: arm.last == SAFE and told.state == "paused", "the pause")
    seen = len(arm.commands)
    arm.live(lambda: len(arm.commands) >= seen + 5, "more commands")
    assert all(list(command.data) == SAFE for command in arm.commands[seen:])
    assert trigger(robot, "resume") == (True, "resumed")
    arm.live(lambda: arm.last == ACTION and told.state == "running", "the arm to move again")
    assert trigger(robot, "resume") == (True, "was not paused")


def test_stop_and_interrupt_do_not_wait_for_a_policy_that_is_stuck(
    robot: Robot, scara: Path
) -> None:
    process = robot.run(
        "tests.ros.nodes.scripted_policy_node", NODE, contract=str(scara), autostart=True
    )
    probe, arm, told = robot.probe, Arm(robot), Told(robot)
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    arm.aim(arm.now_ns)
    arm.live(lambda: arm.last == ACTION, "the arm to move")
    probe.until(lambda: button.get_subscription_count() == 2, "the node to listen")
    arm.live(lambda: arm.last == SAFE, "the policy to be stuck", shoulder=scripted.HANG)
    button.publish(Bool(data=True))
    probe.until(lambda: told.state == "stopped", "the stop")
    process.send_signal(signal.SIGINT)
    probe.until(lambda: process.wait(0.0), "the end")
    assert process.exit_code == 0
    probe.until(lambda: arm.last == SAFE, "the safe command")


def test_the_stamps_of_commands_never_go_back(robot: Robot, tmp_path: Path) -> None:
    """The tick thread finds a stop by itself while the executor is busy; then both send."""
    contract = tmp_path / "contract.yaml"
    contract.write_text(STAMPED)
    start(robot, contract, autostart=True)
    probe = robot.probe
    commands = probe.collect(TwistStamped, "cmd_vel")
    states = probe.node.create_publisher(JointState, "joint_states", reliable(10))
    button = probe.node.create_publisher(Bool, f"{NODE}/stop", reliable(1, latched=True))
    busy = probe.node.create_client(
        ChangeState, f"{NODE}/change_state", qos_profile=reliable(1000)
    )
    invalid = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CLEANUP))
    probe.until(lambda: button.get_subscription_count() == 2, "the node to listen")

    def is_sent(speed: float) -> bool:
        state = JointState(name=["a"], position=[0.25])
        state.header.stamp = probe.node.get_clock().now().to_msg()
        states.publish(state)
        return bool(commands) and commands[-1].twist.linear.x == speed

    for _ in range(STOPS):
        probe.until(partial(is_sent, scripted.ACTION), "the cart to move")
        answers = [busy.call_async(invalid) for _ in range(REQUESTS)]
        button.publish(Bool(data=True))
        probe.until(partial(is_sent, SAFE[0]), "the stop")
        button.publish(Bool(data=False))
        probe.until(lambda: trigger(robot, "reset_stop")[0], "the reset")
        for answer in answers:
            probe.until(answer.done, "an answer")
    stamps = [(each.header.stamp.sec, each.header.stamp.nanosec) for each in commands]
    assert len(stamps) > STOPS
    assert stamps == sorted(stamps)
